"""Objectives and constraints together: from architectures to evaluations. Here, and only here, signs flip."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, cast

from ..errors import UserError, unknown
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from .evaluation import Evaluation
from .objectives import Constraint, Metric, Objective, as_objectives

RESERVED = ("number", "id", "feasible", "architecture", "asked_after", "place")


@dataclass(frozen=True)
class Problem:
    """What is optimised (in this order) and what must be kept."""

    objectives: Mapping[str, Objective]
    constraints: tuple[Constraint, ...] = ()

    @property
    def metrics(self) -> dict[str, tuple[Metric, bool]]:
        """Everything that is evaluated, by name: the function and whether it takes a list."""
        own = {c.name: (c.function, c.batched) for c in self.constraints if c.function is not None}
        return {name: (o.function, o.batched) for name, o in self.objectives.items()} | own

    def judge(self, architecture: Architecture, metrics: Mapping[str, float]) -> Evaluation:
        """The evaluation that these metrics make. A metric that is not finite becomes NaN and makes it a failure."""
        known = {name: metrics[name] if math.isfinite(metrics[name]) else math.nan for name in self.metrics}
        losses = tuple(o.sign * known[name] for name, o in self.objectives.items())
        violations = tuple(v for c in self.constraints for v in c.violations(known[c.name]))
        return Evaluation(architecture, known, losses, violations, failed=any(map(math.isnan, known.values())))

    def evaluate(self, architectures: Sequence[Architecture]) -> Iterator[Evaluation]:
        """One by one as soon as they are known; functions that take a list are called once, with all.

        What such a function returns is taken number by number, so that a generator's are not lost to an interruption.
        """
        together = {
            name: call_batched(name, function, list(architectures))
            for name, (function, batched) in self.metrics.items()
            if batched
        }
        for architecture in architectures:
            values = {
                name: next(together[name]) if batched else function(cast(Any, architecture))
                for name, (function, batched) in self.metrics.items()
            }
            yield self.judge(architecture, {name: _number(name, v, architecture) for name, v in values.items()})


def make_problem(space: GeneSpace, objectives: Mapping[str, Any], constraints: Sequence[Constraint]) -> Problem:
    """Check names and bounds. Errors: no direction, a name used twice, a bound on an objective that does not exist."""
    problem = Problem(as_objectives(objectives), tuple(constraints))
    named = [*problem.objectives, *(c.name for c in problem.constraints if c.function is not None)]
    for name in named:
        if named.count(name) > 1 or name in space.genes or name in RESERVED:
            raise UserError(f"the name {name!r} is taken; objectives, constraints and genes need names of their own")
    for constraint in problem.constraints:
        if constraint.name not in named:
            raise unknown("objective in a constraint without function:", constraint.name, named)
    return problem


def call_batched(name: str, function: Metric, architectures: list[Architecture]) -> Iterator[object]:
    """The numbers of a function that takes a list: a list of them is counted at once, a generator's as they come."""
    values = cast(Callable[[Any], Iterable[object]], function)(architectures)
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
    try:
        return float(cast(Any, value))
    except (TypeError, ValueError):
        raise UserError(f"{name!r} returned {value!r} for architecture {architecture.id}; expected a number") from None
