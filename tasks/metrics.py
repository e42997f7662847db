"""Metrics: what a name or a function says of one, and how it is computed batch by batch."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import UserError, unknown
from ..values import Better, Metric
from .outputs import IGNORED, aligned, class_axis

_LESS = """
bits bpb bpc bpp brier cer cost crossentropy crps deviance deviation distance divergence ece eer entropy epe err error
errors ade fde fid hamming hinge kid kl logloss loss losses lpips mae mape mase mpjpe mse msle nats nll perplexities
perplexity pinball ppl regret residual risk rmse rmsle smape ter wer
"""
_SHARES = """
acc accuracy ap auc auprc auroc dice f1 fbeta iou jaccard map miou precision recall sensitivity specificity top1 top5
"""
LESS, SHARES = frozenset(_LESS.split()), frozenset(_SHARES.split())
"""Words of metrics of which less is better; of metrics between 0 and 1 that are written in per cent."""
MOST_BYTES = 2**31
"""Of the predictions that a function is given at once."""


class Score(Protocol):
    """A metric while it is computed over the batches of a split, as torchmetrics does it."""

    def update(self, prediction: Any, targets: Any) -> None:
        """Take a batch into account."""

    def compute(self) -> Any:
        """The value over all batches: a number, or a tensor of one."""


ScoreFactory = Callable[[], Score]
"""A new `Score` for each evaluation."""


@dataclass
class Accuracy:
    """Share of predictions whose largest output is the target's class, 0 to 1; targets below 0 are ignored."""

    correct: float = 0.0
    total: int = 0

    def update(self, prediction: Tensor, targets: Tensor) -> None:
        axis = class_axis(prediction, targets)
        valid = targets >= 0
        hits = prediction.argmax(-1 if axis is None else axis) == targets
        self.correct += float((hits & valid).sum())
        self.total += int(valid.sum())

    def compute(self) -> float:
        return self.correct / self.total if self.total else float("nan")


@dataclass
class Answers:
    """A torchmetrics metric of the answers, the classes of the largest outputs, wherever the classes stand."""

    inner: Any

    def __post_init__(self) -> None:
        self.inner = _fresh(self.inner)

    def update(self, prediction: Tensor, targets: Tensor) -> None:
        axis = class_axis(prediction, targets)
        self.inner.update(prediction.argmax(-1 if axis is None else axis), targets)

    def compute(self) -> float:
        return float(self.inner.compute())


@dataclass
class Rmse:
    """Root of the mean squared error; `unit`: what 1 of the targets is in the units of the metric."""

    unit: float = 1.0
    squares: float = 0.0
    total: int = 0

    def update(self, prediction: Tensor, targets: Tensor) -> None:
        self.squares += float((prediction - aligned(targets, prediction)).double().square().sum())
        self.total += targets.numel()

    def compute(self) -> float:
        return self.unit * (self.squares / self.total) ** 0.5 if self.total else float("nan")


@dataclass
class MeanOf:
    """Mean over samples of a function that gives the mean of a batch (a loss); ignored targets have no weight."""

    function: Callable[[Any, Any], Any]
    total: float = 0.0
    weight: int = 0

    def update(self, prediction: Any, targets: Any) -> None:
        weight = _weight(targets)
        if weight:
            self.total += weight * float(self.function(prediction, targets))
            self.weight += weight

    def compute(self) -> float:
        return self.total / self.weight if self.weight else float("nan")


@dataclass
class Whole:
    """A function of all predictions and targets at once, as scikit-learn's metrics are; they stay on their device."""

    function: Callable[[Any, Any], Any]
    batches: list[tuple[Any, Any]] = field(default_factory=list)
    held: int = 0

    def update(self, prediction: Any, targets: Any) -> None:
        self.batches.append((prediction, targets))
        self.held += sum(t.nbytes for t in tree_leaves(prediction) if isinstance(t, Tensor))
        if self.held > MOST_BYTES:
            raise UserError(
                f"the metric {name_of(self.function)!r} is a function of all predictions at once, and they take more "
                f"than {MOST_BYTES / 2**30:g} GiB; give a torchmetrics object, which is updated batch by batch"
            )

    def compute(self) -> float:
        predictions, targets = zip(*self.batches, strict=True)
        value = self.function(_joined(predictions), _joined(targets))
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise UserError(
                f"the metric {name_of(self.function)!r} must return a number, got {type(value).__name__}"
            ) from None


def _joined(parts: Any) -> Any:
    return tree_map(lambda *tensors: torch.cat(tensors) if isinstance(tensors[0], Tensor) else tensors, *parts)


def _weight(targets: Any) -> int:
    """How many targets a batch has: of whole numbers those that are not ignored, of others the samples."""
    first = next((t for t in tree_leaves(targets) if isinstance(t, Tensor)), None)
    if first is None:
        return 1
    whole = first.dtype in (torch.int32, torch.int64)
    return int((first != IGNORED).sum()) if whole else len(first)


def accuracy(prediction: Tensor, targets: Tensor) -> float:
    """Share of right answers, 0 to 1."""
    score = Accuracy()
    score.update(prediction, targets)
    return score.compute()


def mse(prediction: Tensor, targets: Tensor) -> float:
    """Mean squared error."""
    return float((prediction - aligned(targets, prediction)).double().square().mean())


def mae(prediction: Tensor, targets: Tensor) -> float:
    """Mean absolute error."""
    return float((prediction - aligned(targets, prediction)).double().abs().mean())


NAMED: dict[str, ScoreFactory] = {
    "accuracy": Accuracy,
    "mse": lambda: MeanOf(mse),
    "rmse": Rmse,
    "mae": lambda: MeanOf(mae),
}
"""Metrics that a task may name."""


def resolve(given: Any, name: str = "", better: Better | None = None) -> tuple[Metric, ScoreFactory, bool]:
    """(metric, how it is computed, whether its direction was only inferred).

    given: a name in `NAMED`; a torchmetrics object; a function of (predictions, targets); or a pair of a name and one
        of these. Errors: none of these; a direction that is neither "max" nor "min".
    """
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        return resolve(given[1], given[0], better)
    if given is accuracy:
        given, name = "accuracy", name or "accuracy"
    if isinstance(given, str):
        if given not in NAMED:
            raise unknown("metric", given, [*NAMED, "a function", "a torchmetrics object"])
        return metric_named(name or given, better), NAMED[given], False
    if not callable(given):
        raise UserError(f"metric must be a name, a function or a torchmetrics object, got {type(given).__name__}")
    own = _of_torchmetrics(given)
    title = name or name_of(given)
    metric = metric_named(title, better or own or inferred(title, given))
    if _streams(given):
        return metric, lambda: _fresh(given), better is None and own is None
    return metric, lambda: Whole(given), better is None


def metric_named(name: str, better: Better | None = None) -> Metric:
    """The metric of that name; where no direction is given, the one that the name says. Error: no such direction."""
    if better not in (None, "max", "min"):
        raise UserError(f"better must be 'max' or 'min', got {better!r}")
    share = bool(SHARES.intersection(_words(name)))
    return Metric(name, "", better or inferred(name), "share" if share else "number")


def _streams(given: Any) -> bool:
    """Whether it has the methods of a torchmetrics metric."""
    return all(callable(getattr(given, method, None)) for method in ("update", "compute", "reset"))


def _of_torchmetrics(given: Any) -> Better | None:
    """The direction that a torchmetrics object declares."""
    higher = getattr(given, "higher_is_better", None)
    return None if higher is None else "max" if higher else "min"


def _fresh(given: Any) -> Score:
    copy: Any = deepcopy(given)
    copy.reset()
    return _OnDevice(copy)


@dataclass
class _OnDevice:
    """A torchmetrics object that follows the device of what it is given."""

    inner: Any

    def update(self, prediction: Any, targets: Any) -> None:
        first = next((t for t in tree_leaves(prediction) if isinstance(t, Tensor)), None)
        if first is not None and isinstance(self.inner, torch.nn.Module):
            self.inner = self.inner.to(first.device)
        self.inner.update(prediction, targets)

    def compute(self) -> float:
        return float(self.inner.compute())


def inferred(name: str, function: Callable[..., Any] | None = None) -> Better:
    """What the name of a metric, or else that of its function, says of the direction: "max" unless less is better.

    scikit-learn's `neg_` turns a loss into a score; a negative log likelihood is a loss.
    """
    return "min" if any(map(_is_loss, (name, name_of(function)))) else "max"


def name_of(function: Callable[..., Any] | None) -> str:
    """A function's name, or that of its class."""
    return "" if function is None else str(getattr(function, "__name__", type(function).__name__))


def _is_loss(name: str) -> bool:
    words = _words(name)
    negative = words[:1] in (["neg"], ["negative"])
    if "likelihood" in words:
        return negative
    return not negative and bool(LESS.intersection(words) or {"cross", "entropy"} <= {*words})


def _words(name: str) -> list[str]:
    """`ValError_top1` as val, error, top1; and what the humps of a camel do not part (`mIoU`)."""
    humps = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z]+\d*", f"{humps} {name}".lower())
