"""90 % intervals of a predictor, from what it said of points that it had not seen."""

from dataclasses import dataclass

import numpy as np

from ..hw_profiles.models.intervals import interval_half_width
from .method import Scale
from .table import Array


@dataclass(frozen=True)
class Interval:
    """half: half-width about the mean, at scale log of the logarithm; in standard deviations if it is normalized."""

    half: float
    scale: Scale
    normalized: bool = False

    def bounds(self, mean: Array, std: Array) -> tuple[Array, Array]:
        """Lower and upper end of each prediction (mean and std as `FittedPredictor.predict` gives them)."""
        if self.scale == "log":
            half = self.half * (std / mean if self.normalized else np.ones_like(mean))
            return mean * np.exp(-half), mean * np.exp(half)
        half = self.half * (std if self.normalized else np.ones_like(mean))
        return mean - half, mean + half


def conformal(residuals: Array, stds: Array, scale: Scale, *, normalized: bool = False) -> Interval:
    """The conformal interval of residuals of the target at points left out.

    normalized: wider where the predictor is less sure; right for predictors that know their distance from the data.
    """
    if normalized:
        residuals = residuals / np.maximum(stds, 1e-30)
    unit = 1.0 if scale == "log" and not normalized else max(float(np.sqrt(np.mean(residuals**2))), 1e-30)
    return Interval(unit * interval_half_width(residuals / unit), scale, normalized)
