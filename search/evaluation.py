"""One evaluated architecture, as the algorithms see it: losses to be minimised and bounds to be kept."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..search_space.architecture import Architecture


@dataclass(frozen=True, order=True)
class Asked:
    """When an architecture was asked for: `after` so many evaluations were known, at this `place` of the batch.

    Evaluations are ordered by this and not by when they finished: that makes the same search of any number of workers.
    """

    after: int
    place: int


@dataclass(frozen=True)
class Evaluation:
    """What is known of one architecture. Algorithms read this and nothing else.

    metrics: every objective and every constraint function by name, in the user's own sign and unit.
    losses: the objectives in their order, signed so that smaller is better; finite unless `failed`.
    violations: one number per bound, relative to the bound where that is not zero; at most 0 where the bound is kept.
    failed: a metric is NaN or infinite. Such an architecture is infeasible, and never asked again.
    """

    architecture: Architecture
    metrics: Mapping[str, float]
    losses: tuple[float, ...]
    violations: tuple[float, ...]
    failed: bool

    @property
    def feasible(self) -> bool:
        """Whether it was evaluated to finite numbers that keep every bound."""
        return not self.failed and all(v <= 0 for v in self.violations)

    @property
    def excess(self) -> float:
        """Sum of the violated bounds: 0 where all are kept."""
        return sum(v for v in self.violations if v > 0)
