"""Objectives and constraints together: from metrics to evaluations. Here, and only here, signs flip."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserError, unknown
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from .evaluation import Evaluation
from .objectives import SMALL, Constraint, Objective, as_objectives

RESERVED = ("number", "id", "feasible", "architecture", "asked_after", "place")


@dataclass(frozen=True)
class Problem:
    """What is optimised (in this order) and what must be kept."""

    objectives: Mapping[str, Objective]
    constraints: tuple[Constraint, ...] = ()

    @property
    def metrics(self) -> dict[str, Objective]:
        """Everything that is evaluated, by name; the function of a constraint as an objective (that nobody pursues)."""
        own = {c.name: Objective(c.function, SMALL, c.batched) for c in self.constraints if c.function is not None}
        return dict(self.objectives) | own

    def judge(self, architecture: Architecture, metrics: Mapping[str, float]) -> Evaluation:
        """The evaluation that these metrics make. One that is missing or not finite becomes NaN: a failure."""
        values = {n: metrics[n] if math.isfinite(metrics.get(n, math.nan)) else math.nan for n in self.metrics}
        losses = tuple(o.metric.sign * values[name] for name, o in self.objectives.items())
        violations = tuple(v for c in self.constraints for v in c.violations(values[c.name]))
        return Evaluation(architecture, values, losses, violations, any(map(math.isnan, values.values())))

    def texts(self, evaluation: Evaluation) -> dict[str, str]:
        """The objectives of a net as people read them, by name."""
        return {name: o.text(evaluation.metrics[name]) for name, o in self.objectives.items()}


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
