"""In-place distillation: smaller subnets learn from the outputs of the largest in the same step.

What is compared follows the kind of the outputs: distributions over classes by a divergence, any other values by their
mean squared difference.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss, softmax
from torch.utils._pytree import tree_leaves

from ..errors import unknown
from ..search_space.inputs import map_tensors
from ..tasks import Task
from ..tasks.outputs import IGNORED
from ..tasks.rows import over_rows

Distillation = Callable[[Tensor, Tensor], Tensor]
"""(student logits, teacher logits), both (rows, classes), to (rows,). The teacher gets no gradient."""


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of each row (Hinton et al. 2015, temperature 1)."""
    log_q, log_p = (log_softmax(x.float(), dim=-1) for x in (student, teacher.detach()))
    return kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)


def alpha(student: Tensor, teacher: Tensor, low: float = -1.0, high: float = 1.0, clip: float = 5.0) -> Tensor:
    """AlphaNet's adaptive alpha-divergence (Wang et al. 2021): of two alphas the larger divergence, for each row.

    Alpha < 0 punishes a student that is too sure, alpha = 1 (KL) one that is not sure enough. Importance ratios are
    clipped at `clip` so that one rare class cannot carry the gradient.
    """
    pairs = [_alpha_divergence(student, teacher.detach(), a, clip) for a in (low, high)]
    values, surrogates = zip(*pairs, strict=True)
    pick = torch.stack(values).argmax(dim=0, keepdim=True)
    return torch.stack(surrogates).gather(0, pick)[0]


def _alpha_divergence(student: Tensor, teacher: Tensor, a: float, clip: float) -> tuple[Tensor, Tensor]:
    """(divergence, surrogate whose gradient is the divergence's), each (rows,)."""
    log_q = log_softmax(student.float(), dim=-1)
    p, q = softmax(teacher.float(), dim=-1), log_q.exp().detach()
    log_ratio = p.log() - q.log()
    if abs(a - 1) < 1e-3:  # the limit is KL(teacher || student)
        return (p * log_ratio).sum(-1), -(p * log_q).sum(-1)
    powered = (a * log_ratio).exp().clamp(0, clip)
    value = (q * (powered - 1)).sum(-1) / (a * (a - 1))
    rho = powered / a + 1 / (a * (a - 1))
    return value, -(q * rho * log_q).sum(-1)


DISTILLATIONS: dict[str, Distillation] = {"kl": kl, "alpha": alpha}


def distillation(name: str) -> Distillation:
    """The divergence of that name."""
    if name not in DISTILLATIONS:
        raise unknown("distillation", name, DISTILLATIONS)
    return DISTILLATIONS[name]


def distilled(name: str, student: Any, teacher: Any, targets: Any, task: Task) -> Tensor:
    """The task's own distillation; else the divergence `name` over classes, of other values the mean squared error.

    Predictions that are pytrees are compared tensor by tensor; ignored targets have no weight.
    """
    if task.distillation is not None:
        return task.distillation(student, teacher, targets)
    terms = [
        _compared(name, s, t, task.class_axis(s, targets), targets)
        for s, t in zip(tree_leaves(student), tree_leaves(teacher), strict=True)
        if isinstance(s, Tensor) and s.is_floating_point()
    ]
    return torch.stack(terms).sum()


def _compared(name: str, student: Tensor, teacher: Tensor, axis: int | None, targets: Any) -> Tensor:
    if axis is None:
        return mse_loss(student.float(), teacher.detach().float())
    divergence = distillation(name)
    rows = [logits.movedim(axis, -1).flatten(0, -2) for logits in (student, teacher)]
    valid = (torch.ones_like(rows[0][:, 0]) if targets.is_floating_point() else (targets != IGNORED).flatten()).float()
    return over_rows(lambda s, t, weight: divergence(s, t) @ weight, *rows, valid) / valid.sum().clamp(min=1)


def full_precision(prediction: Any) -> Any:
    """What autocast left in bfloat16 as float32."""
    return map_tensors(lambda t: t.float() if t.dtype == torch.bfloat16 else t, prediction)
