"""Next-token prediction on local text: each byte from those before it."""

from math import log
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from .corpus import BYTES, bytes_of, splits_of
from .metrics import MeanOf, metric_named
from .outputs import cross_entropy
from .registry import register
from .task import Task


@register("text")
def load(argument: str | None) -> Task:
    """A language model of bytes. `argument`: a file, or a folder with all files below it; None: Python's library."""
    splits, source = splits_of("text", argument, next_bytes)
    return Task(
        name="text" if argument is None else f"text:{argument}",
        **splits,
        metric=metric_named("bits_per_byte"),
        score=lambda: MeanOf(bits),
        outputs="tokens",
        vocabulary=BYTES,
        space="byte-lm",
        source=source,
        preprocessing="The bytes of a text, one token each.",
        postprocessing="the logits at a place are of the byte that comes next",
        batch_size=16,
    )


def next_bytes(path: Path, begin: int, end: int, stop: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The bytes of a window, and after each the one that comes next."""
    data = bytes_of(path, begin, min(end + 1, stop))
    return data[: end - begin], data[1:]


def bits(prediction: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in bits."""
    return cross_entropy(prediction, targets) / log(2)
