"""In-place distillation: smaller subnets learn from the outputs of the largest in the same step.

What is compared follows the kind of the outputs: distributions over classes by a divergence, any other values by their
mean squared difference.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss, softmax

from ..errors import unknown
from ..tasks.task import Loss, cross_entropy

Distillation = Callable[[Tensor, Tensor], Tensor]
"""(student logits, teacher logits), both (batch, ..., classes), to a scalar. The teacher gets no gradient."""


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student), mean over the batch (Hinton et al. 2015, temperature 1)."""
    log_q, log_p = (log_softmax(x.flatten(0, -2).float(), dim=-1) for x in (student, teacher.detach()))
    return kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def alpha(student: Tensor, teacher: Tensor, low: float = -1.0, high: float = 1.0, clip: float = 5.0) -> Tensor:
    """AlphaNet's adaptive alpha-divergence (Wang et al. 2021): of two alphas the larger divergence, for each sample.

    Alpha < 0 punishes a student that is too sure, alpha = 1 (KL) one that is not sure enough. Importance ratios are
    clipped at `clip` so that one rare class cannot carry the gradient.
    """
    pairs = [_alpha_divergence(student, teacher.detach(), a, clip) for a in (low, high)]
    values, surrogates = zip(*pairs, strict=True)
    pick = torch.stack(values).argmax(dim=0, keepdim=True)
    return torch.stack(surrogates).gather(0, pick).mean()


def _alpha_divergence(student: Tensor, teacher: Tensor, a: float, clip: float) -> tuple[Tensor, Tensor]:
    """(divergence, surrogate whose gradient is the divergence's), each (batch,)."""
    log_q = log_softmax(student.flatten(0, -2).float(), dim=-1)
    p, q = softmax(teacher.flatten(0, -2).float(), dim=-1), log_q.exp().detach()
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


def distilled(name: str, student: Tensor, teacher: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The divergence `name` over the classes; of outputs that are no classes the mean squared error.

    targets, loss: of the task; they tell what the outputs are.
    """
    axis = class_axis(student, targets, loss)
    if axis is None:
        return mse_loss(student.float(), teacher.detach().float())
    return distillation(name)(student.movedim(axis, -1), teacher.movedim(axis, -1))


def class_axis(outputs: Tensor, targets: Tensor, loss: Loss) -> int | None:
    """The dimension of `outputs` that holds the logits of classes; None if they are other values.

    Targets that are whole numbers have the shape of the outputs without the classes, which come second, as in torch's
    losses and in (N, K, H, W), or last, as in (N, T, K). One output for each target is no distribution.
    """
    if targets.is_floating_point() or targets.is_complex():
        soft = loss is cross_entropy and targets.shape == outputs.shape  # a probability of each class
        return 1 if soft and outputs.shape[1] > 1 else None
    shape = outputs.shape
    for axis in dict.fromkeys((1, outputs.dim() - 1)):
        if 0 < axis < len(shape) and (*shape[:axis], *shape[axis + 1 :]) == tuple(targets.shape):
            return axis if shape[axis] > 1 else None
    return None
