"""Intervals that hold as often as they say, from residuals of nets that the model had not seen."""

from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
SIDE = 0.95
"""Share of nets that each end alone holds; both ends together hold 90 %."""
FEW_SIDE = 0.97
"""The same of the upper end where nets are so few that the quantile is extrapolated: rare slow nets are not among them,
and a search picks such as are predicted too fast."""
NARROWEST = log(1.01)
"""No interval is narrower than 1 %, nor than the repeat noise of its device."""


def interval_ends(residuals: Array, noise: float = 0.0) -> tuple[float, float]:
    """(below, above): how far the ends of a 90 % interval lie from a prediction (log).

    residuals: log of true over predicted value of nets that were left out; two at least. noise: repeat noise, a share.
    Each end has its own quantile. Errors are skewed, for a machine has slow phases and no fast ones; ends at one
    distance would let nearly all misses be nets that are slower than the upper end, which is what a search bounds.
    """
    narrowest = max(NARROWEST, log(1 + noise))
    return max(_quantile(-residuals, SIDE), narrowest), max(_quantile(residuals, FEW_SIDE), narrowest)


def _quantile(residuals: Array, few: float) -> float:
    """What a new residual exceeds with a probability of at most 5 %.

    From 19 nets on the conformal quantile (Vovk et al. 2005), which assumes nothing but that nets are exchangeable.
    Fewer have none: then Student's t at the level `few`, and no less than the largest residual.
    """
    n = len(residuals)
    rank = ceil((n + 1) * SIDE - 1e-9)
    if rank <= n:
        return float(np.sort(residuals)[rank - 1])
    spread = float(student.ppf(few, n - 1) * sqrt(np.mean(residuals**2)) * sqrt(1 + 1 / n))
    return max(spread, float(residuals.max()))
