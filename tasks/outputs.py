"""What a net returns: the part that is its prediction, where its classes stand, and how two predictions compare.

Letters: N samples, T tokens, H height, W width, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from ..errors import UserError
from .rows import MOST_LOGITS, over_rows

Kind = Literal["classes", "tokens", "values", "maps", "boxes", "embeddings"]
"""Classes of a sample; tokens of a vocabulary, at each place; numbers; classes of every pixel; boxes; vectors."""
Selected = str | int | Callable[[Any], Any] | None
"""Which part of what a net returns is its prediction: a key or attribute, a place in a tuple, or a function."""
IGNORED = -100
"""A target of this class is ignored, as by torch's losses."""


def prediction_of(outputs: Any, part: Selected) -> Any:
    """The part of a net's outputs that is compared with targets. Error: there are several, and `part` is None."""
    if callable(part):
        return part(outputs)
    if part is None:
        return outputs if isinstance(outputs, Tensor) else _only(outputs)
    if isinstance(part, int):
        return outputs[part]
    named = _named(outputs)
    if part in named:
        return named[part]
    if isinstance(outputs, Tensor) or (not named and not isinstance(outputs, list | tuple)):
        return outputs  # the net returns its prediction and nothing else
    raise UserError(f"output={part!r} names no part of what the net returns; it returns {_described(outputs)}")


def _only(outputs: Any) -> Any:
    """The one tensor among the outputs, or the logits of a transformers model."""
    named = _named(outputs)
    if isinstance(named.get("logits"), Tensor):
        return named["logits"]
    parts = list(named.values()) if named else list(outputs) if isinstance(outputs, list | tuple) else []
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    raise UserError(f"the net returns {_described(outputs)}; say in the task which part is its prediction: output=...")


def _named(outputs: Any) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return {f.name: getattr(outputs, f.name) for f in fields(outputs)}
    names = getattr(type(outputs), "_fields", ()) if isinstance(outputs, tuple) else ()
    return dict(zip(names, outputs, strict=True)) if names else {}


def _described(outputs: Any) -> str:
    named = _named(outputs)
    if named:
        return f"{type(outputs).__name__} of {', '.join(map(str, named))}"
    if isinstance(outputs, list | tuple):
        return f"a {type(outputs).__name__} of {len(outputs)}"
    return type(outputs).__name__


def aligned(targets: Any, prediction: Any) -> Any:
    """Targets in the shape of the prediction where they have as many numbers: (N,) beside (N, 1).

    Broadcasting would compare each with each.
    """
    if not (isinstance(targets, Tensor) and isinstance(prediction, Tensor)) or not targets.is_floating_point():
        return targets
    return targets.view_as(prediction) if targets.numel() == prediction.numel() else targets


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats of logits (N, K), (N, T, K) or (N, K, H, W); targets of -100 are ignored.

    Of large outputs whose classes are last it is computed in chunks.
    """
    axis = class_axis(outputs, targets)
    if axis is None or axis < outputs.dim() - 1 or outputs.numel() <= MOST_LOGITS:
        return F.cross_entropy(classes_second(outputs, targets), targets, label_smoothing=label_smoothing)
    total = summed_cross_entropy(outputs, targets, label_smoothing)
    return total / (targets != IGNORED).sum()


def summed_cross_entropy(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The sum of the cross-entropies of logits (..., K) and classes (...), of which -100 is ignored; in float32."""

    def summed(rows: Tensor, classes: Tensor) -> Tensor:
        return F.cross_entropy(rows.float(), classes, reduction="sum", label_smoothing=label_smoothing)

    return over_rows(summed, outputs.flatten(0, -2), targets.flatten())


def classes_second(outputs: Tensor, targets: Tensor) -> Tensor:
    """The logits with their classes in dimension 1, where torch's losses want them."""
    axis = class_axis(outputs, targets)
    return outputs if axis is None else outputs.movedim(axis, 1)


def is_cross_entropy(loss: object) -> bool:
    return loss is cross_entropy or loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)


def class_axis(outputs: Tensor, targets: Any, loss: object = None) -> int | None:
    """The dimension of `outputs` that holds the logits of classes; None if they are other values.

    Targets that are whole numbers have the shape of the outputs without the classes, which come second, as in torch's
    losses and in (N, K, H, W), or last, as in (N, T, K). One output for each target is no distribution.
    loss: of the task; with a cross-entropy floating targets of the same shape are a probability of each class.
    """
    if not isinstance(targets, Tensor) or not isinstance(outputs, Tensor):
        return None
    if targets.is_floating_point() or targets.is_complex():
        soft = is_cross_entropy(loss) and targets.shape == outputs.shape
        return 1 if soft and outputs.dim() > 1 and outputs.shape[1] > 1 else None
    shape, last = tuple(outputs.shape), outputs.dim() - 1
    fitting = [k for k in dict.fromkeys((1, last)) if 0 < k <= last and (*shape[:k], *shape[k + 1 :]) == targets.shape]
    if not fitting or shape[fitting[0]] < 2:
        return None
    return fitting[-1] if outputs.dim() == 3 else fitting[0]  # as many tokens as classes: (N, T, K) is what nets return


@dataclass
class Agreement:
    """How far predictions agree with a reference, over batches.

    Of classes the share of equal answers; of other values the coefficient of determination (R squared), 1 where they
    are equal and 0 where the mean of the reference is as near.
    """

    answers: int = 0
    equal: float = 0.0
    values: int = 0
    squared_error: float = 0.0
    total: float = 0.0
    total_squares: float = 0.0

    def update(self, prediction: Any, reference: Any, axis: int | None) -> None:
        """axis: of the classes; None: there are none."""
        for one, other in zip(tree_leaves(prediction), tree_leaves(reference), strict=True):
            if axis is not None:
                same = one.argmax(axis) == other.argmax(axis)
                self.equal, self.answers = self.equal + float(same.sum()), self.answers + same.numel()
                continue
            one, other = one.double().flatten(), other.double().flatten()
            self.values += other.numel()
            self.squared_error += float((one - other).square().sum())
            self.total, self.total_squares = self.total + float(other.sum()), self.total_squares + float(other @ other)

    def compute(self) -> float:
        if self.answers:
            return self.equal / self.answers
        spread = self.total_squares - self.total**2 / self.values if self.values else 0.0
        return max(0.0, 1.0 - self.squared_error / spread) if spread > 0 else float(self.squared_error == 0)


def all_finite(prediction: Any) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tree_leaves(prediction) if isinstance(t, Tensor))
