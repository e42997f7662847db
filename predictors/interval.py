"""90 % intervals of a predictor, from its predictions of points that it had not seen."""

from dataclasses import dataclass

import numpy as np

from ..hw_profiles.models.intervals import interval_ends
from .method import Scale
from .table import Array


@dataclass(frozen=True)
class Interval:
    """below, above: distance of the ends from the mean, at scale log of the logarithm.

    typical: standard deviation (of the target) from which the ends move away as it grows; infinite: they never do.
    """

    below: float
    above: float
    scale: Scale
    typical: float = np.inf

    def bounds(self, mean: Array, std: Array) -> tuple[Array, Array]:
        """Lower and upper end of each prediction (mean and std as `FittedPredictor.predict` gives them)."""
        if self.scale == "log":
            wider = _wider(std / mean, self.typical)
            return mean * np.exp(-self.below * wider), mean * np.exp(self.above * wider)
        wider = _wider(std, self.typical)
        return mean - self.below * wider, mean + self.above * wider


def conformal(residuals: Array, stds: Array, scale: Scale, *, normalized: bool = False) -> Interval:
    """The conformal interval of residuals (true - predicted) of the target at points left out.

    normalized: wider where the predictor is less sure than of most points left out; right for predictors that know
    their distance from the data. It is nowhere narrower: few points do not tell where a predictor is surer than usual.
    """
    typical = max(float(np.sqrt(np.mean(stds**2))), 1e-30) if normalized else np.inf
    scores = residuals / _wider(stds, typical)
    unit = 1.0 if scale == "log" else max(float(np.sqrt(np.mean(scores**2))), 1e-30)
    below, above = interval_ends(scores / unit)
    return Interval(unit * below, unit * above, scale, typical)


def _wider(stds: Array, typical: float) -> Array:
    return np.maximum(stds / typical, 1.0)
