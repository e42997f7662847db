"""Architectures to evaluations: the functions of objectives and constraints are called, and give numbers."""

import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from statistics import fmean
from typing import Any, cast

from torch import Tensor

from ..errors import UserError
from ..search_space.architecture import Architecture
from .evaluation import Evaluation
from .objectives import Objective
from .problem import Problem

LONGEST = 80
"""Characters of a wrong value that a message repeats."""


def evaluate(problem: Problem, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Evaluation]]:
    """(index, evaluation) of each, as soon as it is known: what a generator gives is not lost to an interruption."""
    streams = {name: numbers(name, metric, architectures) for name, metric in problem.metrics.items()}
    for index, architecture in enumerate(architectures):
        yield index, problem.judge(architecture, {name: next(stream) for name, stream in streams.items()})


def numbers(name: str, metric: Objective, architectures: Sequence[Architecture]) -> Iterator[float]:
    """What a metric gives for each architecture; of a function that is called several times, the mean.

    Errors: something else than a number, or another count of numbers than of architectures.
    """
    runs = [_called(name, metric, architectures) for _ in range(metric.repeats)]
    for architecture in architectures:
        yield fmean(_number(name, next(run), architecture) for run in runs)


def _called(name: str, metric: Objective, architectures: Sequence[Architecture]) -> Iterator[object]:
    if not metric.batched:
        yield from map(metric.function, architectures)
        return
    values = cast(Iterable[object], metric.function(list(architectures)))
    if isinstance(values, Sized) and len(values) != len(architectures):
        raise _miscounted(name, len(values), len(architectures))
    given = 0
    for value in values:
        given += 1
        yield value
    raise _miscounted(name, given, len(architectures))  # one more was asked for


def _miscounted(name: str, given: int, wanted: int) -> UserError:
    return UserError(f"{name!r} returned {given} numbers for {wanted} architectures")


def _number(name: str, value: object, architecture: Architecture) -> float:
    """Also of a tensor or an array of one number. What is too large for a float is infinite: a failure."""
    try:
        if not isinstance(value, str | bytes | None):
            return float(cast(Any, value.detach() if isinstance(value, Tensor) else value))
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        pass
    given = " ".join(repr(value).split())
    given = given if len(given) <= LONGEST else f"{given[:LONGEST]}..."
    raise UserError(
        f"{name!r} returned {given} for architecture {architecture.id}; expected one number, "
        "or NaN for an architecture that failed"
    )
