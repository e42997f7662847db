"""Intervals that hold as often as they say, from residuals of nets that the model had not seen."""

from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIDE = 0.95
"""Share of nets that each end alone holds; both ends together hold 90 %."""
FEW_SIDE = 0.96
"""The same of the upper end where nets are few: rare slow nets are not among them, and a search picks such as are
predicted too fast."""
ENOUGH = 40
"""Residuals from which the conformal quantile does not rest on the largest one or two."""
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
    """What a new residual exceeds with a probability of about 5 %.

    From 40 nets on the conformal quantile (Vovk et al. 2005), which assumes nothing but that nets are exchangeable;
    below, Student's t at the level `few`, of the deviation of all nets or to this side alone, whichever is larger.
    """
    from scipy.special import stdtrit  # the quantiles of Student's t; here, for its import takes long

    n = len(residuals)
    if n >= ENOUGH:
        return float(np.sort(residuals)[ceil((n + 1) * SIDE - 1e-9) - 1])
    deviation = sqrt(max(np.mean(residuals**2), 2 * np.mean(np.maximum(residuals, 0.0) ** 2)))
    return float(stdtrit(n - 1, few) * deviation * sqrt(1 + 1 / n))
