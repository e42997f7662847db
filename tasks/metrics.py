"""What the name of a metric says: which way is better, and whether its values are shares."""

import re
from collections.abc import Callable
from typing import Any, Literal

Better = Literal["max", "min"]

_LESS = """
bits bpb bpc bpp brier cer cost crossentropy crps deviance deviation distance divergence ece eer entropy epe err error
errors ade fde fid hamming hinge kid kl logloss loss losses lpips mae mape mase mpjpe mse msle nll perplexities
perplexity pinball ppl regret residual risk rmse rmsle smape ter wer
"""
_SHARES = """
acc accuracy ap auc auprc auroc dice f1 fbeta iou jaccard map miou precision recall sensitivity specificity top1 top5
"""
LESS, SHARES = frozenset(_LESS.split()), frozenset(_SHARES.split())
"""Words of metrics of which less is better; of metrics between 0 and 1 that are written in per cent."""


def inferred(name: str, function: Callable[..., Any] | None = None) -> Better:
    """What the name of a metric, or else that of its function, says of the direction: "max" unless less is better.

    scikit-learn's `neg_` turns a loss into a score; a negative log likelihood is a loss.
    """
    return "min" if any(map(_is_loss, (name, name_of(function)))) else "max"


def name_of(function: Callable[..., Any] | None) -> str:
    """A function's name, or that of its class."""
    return "" if function is None else str(getattr(function, "__name__", type(function).__name__))


def quality_text(value: float, name: str) -> str:
    """A value of the metric of that name: in per cent where it is a share, else plainly."""
    share = 0 <= value <= 1 and bool(SHARES.intersection(_words(name)))
    return f"{value:.2%}" if share else f"{value:.4g}"


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
