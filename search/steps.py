"""Architectures to evaluations: the functions are called step by step, and who is hopeless is given up on the way."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor

from ..errors import UserError
from ..search_space.architecture import Architecture
from .evaluation import Evaluation
from .objectives import Objective
from .problem import Problem
from .race import Race

LONGEST = 80
"""Characters of a wrong value that a message repeats."""


@dataclass
class _Runner:
    """A net on its way: its metrics at the rungs reached, and by objective the values at its rungs but the last."""

    architecture: Architecture
    metrics: dict[str, float] = field(default_factory=dict)
    early: dict[str, list[float]] = field(default_factory=dict)

    def reach(self, rung: int, found: Mapping[str, float], objectives: Mapping[str, Objective]) -> None:
        for name, new in found.items():
            value = objectives[name].after(rung, self.metrics.get(name, 0.0), new)
            self.metrics[name] = value
            if rung < len(objectives[name].rungs) - 1:
                self.early.setdefault(name, []).append(value)


def evaluate(
    problem: Problem, architectures: Sequence[Architecture], race: Race | None = None
) -> Iterator[tuple[int, Evaluation]]:
    """(index, evaluation) of each as soon as it is known; functions that take a list are called with all that go on.

    What such a function returns is taken number by number, so that a generator's are not lost to an interruption.
    race: gives up nets after the first steps of an evaluation that has several; None: no net.
    """
    metrics, race = problem.metrics, race or Race()
    going = {index: _Runner(architecture) for index, architecture in enumerate(architectures)}
    for rung in range(problem.rungs):
        found = _step(metrics, [runner.architecture for runner in going.values()], rung)
        for index, runner in list(going.items()):
            runner.reach(rung, next(found), metrics)
            evaluation = _outcome(problem, runner, rung, race)
            if evaluation is not None:
                del going[index]
                yield index, evaluation


def _step(metrics: Mapping[str, Objective], nets: Sequence[Architecture], rung: int) -> Iterator[dict[str, float]]:
    """What the functions that have such a rung give there, net by net."""
    due = {name: metric for name, metric in metrics.items() if rung < len(metric.rungs)}
    together = {name: call_batched(name, m, nets, m.settings(rung)) for name, m in due.items() if m.batched}
    for net in nets:
        values = {
            name: next(together[name]) if m.batched else m.function(net, *m.settings(rung)) for name, m in due.items()
        }
        yield {name: _number(name, value, net) for name, value in values.items()}


def _outcome(problem: Problem, runner: _Runner, rung: int, race: Race) -> Evaluation | None:
    """None: the net goes on."""
    left = {name: o for name, o in problem.objectives.items() if rung < len(o.rungs) - 1}
    if not left or not all(map(math.isfinite, runner.metrics.values())):
        return problem.judge(runner.architecture, runner.metrics, early=runner.early)
    expected = race.given_up(problem.objectives, problem.constraints, dict.fromkeys(left, rung), runner.metrics)
    if expected is None:
        return None
    fidelity = min(o.rungs[rung] for o in left.values())
    return problem.judge(runner.architecture, expected, fidelity, runner.early)


def call_batched(
    name: str, metric: Objective, architectures: Sequence[Architecture], settings: Sequence[float] = ()
) -> Iterator[object]:
    """The numbers of a function that takes a list: a list of them is counted at once, a generator's as they come."""
    values = cast(Iterable[object], metric.function(list(architectures), *settings))
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
