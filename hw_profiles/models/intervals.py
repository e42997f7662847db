"""Intervals that hold as often as they say, from residuals of nets that the model had not seen."""

from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
CONFIDENCE = 0.9
NARROWEST = log(1.01)
"""No interval is narrower than 1 %, nor than the repeat noise of its device."""
ENOUGH = 40
"""Residuals from which the conformal quantile does not rest on the largest one or two."""


def interval_half_width(residuals: Array, noise: float = 0.0) -> float:
    """Half-width (log) of a 90 % interval, from log residuals of nets that were left out.

    From 40 nets on the conformal quantile (Vovk et al. 2005); below, Student's t, which is as wide as few nets deserve.
    noise: repeat noise of the device, a share.
    """
    n = len(residuals)
    if n >= ENOUGH:
        rank = min(n, ceil((n + 1) * CONFIDENCE))
        half = float(np.sort(np.abs(residuals))[rank - 1])
    else:
        half = float(student.ppf((1 + CONFIDENCE) / 2, n - 1) * sqrt(np.mean(residuals**2)) * sqrt(1 + 1 / n))
    return max(half, NARROWEST, log(1 + noise))
