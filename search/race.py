"""Who is worth a full evaluation: nets that even in the best case would be beaten are given up on the way.

Evaluations that go through several fidelities (parts of the validation split, repeats of a noisy measurement) make a
race: after each rung those go on of which it cannot be told yet. The fidelities may double, as in successive halving
(Jamieson and Talwalkar, 2016: "Non-stochastic best arm identification"); who goes on is decided by intervals, as in
racing (Maron and Moore, 1994: "Hoeffding races"), not by a share that is fixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from . import pareto
from .evaluation import Evaluation
from .objectives import Constraint, Objective

CONFIDENCE = 0.95
"""Of the one-sided interval: a share of 1 - CONFIDENCE at most of the nets that would reach a point is given up."""
FEWEST = 10
"""Full evaluations from which it is learned how far a low fidelity can be trusted."""
MOST = 500
"""Full evaluations that it is learned from: the last ones, which are nearest to the front."""


@dataclass(frozen=True)
class Forecast:
    """Value at the full fidelity = start + slope x value at a lower one, more or less `margin` at most (one-sided)."""

    slope: float
    start: float
    margin: float

    def __call__(self, value: float) -> float:
        return self.start + self.slope * value


@dataclass(frozen=True)
class Race:
    """What is known when a batch begins.

    forecasts: by objective, one for each rung but the last. front: (nets, objectives), the losses of the best nets.
    """

    forecasts: Mapping[str, Sequence[Forecast]] = field(default_factory=dict)
    front: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    def given_up(
        self,
        objectives: Mapping[str, Objective],
        constraints: Sequence[Constraint],
        reached: Mapping[str, int],
        metrics: Mapping[str, float],
    ) -> dict[str, float] | None:
        """The metrics as they would probably be at the full fidelity, of a net that is hopeless; None: it goes on.

        Hopeless: the better end of its interval breaks a bound, or is beaten by a known net in all objectives.
        reached: by objective, the rung of its value, where that is not the last.
        """
        if not self.forecasts:
            return None
        lines = {name: self.forecasts[name][rung] for name, rung in reached.items()}
        expected = dict(metrics) | {name: line(metrics[name]) for name, line in lines.items()}
        margins = {name: line.margin for name, line in lines.items()}
        beyond = any(_broken(c, expected[c.name], margins.get(c.name, 0.0)) for c in constraints)
        best = np.array([o.sign * expected[n] - margins.get(n, 0.0) for n, o in objectives.items()])
        return expected if beyond or self._beaten(best) else None

    def _beaten(self, losses: NDArray[np.float64]) -> bool:
        if not len(self.front):
            return False
        return bool(((self.front <= losses).all(axis=1) & (self.front < losses).any(axis=1)).any())


def race_of(objectives: Mapping[str, Objective], evaluations: Sequence[Evaluation]) -> Race:
    """The race that these evaluations allow. It stops nobody while too few are whole."""
    staged = [name for name, o in objectives.items() if len(o.rungs) > 1]
    whole = [e for e in evaluations if not e.failed and e.fidelity == 1] if staged else []
    if len(whole) < FEWEST:
        return Race()
    forecasts = {name: _forecasts(name, whole[-MOST:]) for name in staged}
    feasible = np.array([e.losses for e in whole if e.feasible]).reshape(-1, len(objectives))
    return Race(forecasts, feasible[pareto.non_dominated(feasible)])


def _forecasts(name: str, whole: Sequence[Evaluation]) -> list[Forecast]:
    final = np.array([e.metrics[name] for e in whole])
    return [_line(np.array(values), final) for values in zip(*(e.early[name] for e in whole), strict=True)]


def _line(early: NDArray[np.float64], final: NDArray[np.float64]) -> Forecast:
    """Least squares; where the early values are all alike, the mean."""
    spread = early - early.mean()
    total = float(spread @ spread)
    slope = float(spread @ final) / total if total > 0 else 0.0
    start = float(final.mean() - slope * early.mean())
    rest = final - start - slope * early
    free = len(final) - 2
    return Forecast(slope, start, float(student.ppf(CONFIDENCE, free) * np.sqrt(rest @ rest / free)))


def _broken(constraint: Constraint, value: float, margin: float) -> bool:
    """Whether a bound is broken by more than the margin."""
    above = constraint.upper is not None and value - margin > constraint.upper
    return above or (constraint.lower is not None and value + margin < constraint.lower)
