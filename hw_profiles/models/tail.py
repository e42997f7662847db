"""The 95th percentile of single calls, from the latency: a device has a tail that depends on little but the time.

The ratio of the percentile to the median is a power of the predicted latency: two numbers for a device. In most
profiles that misses nets left out by less than one ratio for all nets does, and than a model of the percentile itself,
fitted as latencies are: a percentile is too noisy to learn operators from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from ...values import P95, Estimate
from ..cost import Cost
from .intervals import interval_ends
from .latency import LatencyModel, missed
from .priors import Prior

Array = NDArray[np.float64]
FEWEST = 3
"""Points that state their 95th percentile, from which a tail is fitted."""
PARTS = 10
CAUTION = 1.0
"""Squared log milliseconds by which the slope is drawn to zero: a few nets of about one latency tell no slope."""


@dataclass(frozen=True)
class Tail:
    """p95 / latency = exp(level + slope x log milliseconds), and never below 1."""

    level: float
    slope: float
    range_ms: tuple[float, float]
    """Of the nets that it was fitted to; beyond, the ratio stays as it is at the end."""
    half: float
    """Half-width (log) of the 90 % interval of the percentile, from nets left out."""
    error: float
    """Mean absolute relative error of the percentiles of nets left out."""

    def ratio(self, ms: float) -> float:
        least, most = self.range_ms
        return exp(max(0.0, self.level + self.slope * log(min(max(ms, least), most))))


def p95_of(tail: Tail, time: Estimate, model: LatencyModel) -> Estimate:
    """The 95th percentile, its interval and where it is from. Wider where the latency is less sure than usual."""
    mean = tail.ratio(time.value) * time.value
    low = tail.half + max(0.0, log(time.value / time.low) + log(model.low_factor))
    high = tail.half + max(0.0, log(time.high / time.value) - log(model.high_factor))
    return Estimate(P95, mean, mean * exp(-low), mean * exp(high), time.source, time.tier)


def fit_tail(
    costs: Sequence[Cost],
    times_ms: Sequence[tuple[float, float]],
    model: LatencyModel,
    prior: Prior,
    noise: float = 0.0,
) -> Tail:
    """times_ms: (median, 95th percentile) of each net. model: that of the latency."""
    medians, percentiles = np.array(times_ms, dtype=np.float64).T
    fold = np.arange(len(costs)) % (len(costs) if len(costs) <= 3 * PARTS else PARTS)
    # What the ratio is multiplied by in use is a prediction: so it is here, and both errors count.
    logs = np.log(medians) - missed(model, costs, medians.tolist(), prior, fold)
    ratios = np.log(percentiles / medians)
    off = np.log(percentiles) - logs
    for part in np.unique(fold):
        out = fold == part
        level, slope = _line(logs[~out], ratios[~out])
        off[out] -= np.maximum(0.0, level + slope * np.clip(logs[out], logs[~out].min(), logs[~out].max()))
    level, slope = _line(logs, ratios)
    error = float(np.mean(np.abs(np.expm1(-off))))
    ends = float(np.exp(logs.min())), float(np.exp(logs.max()))
    return Tail(level, slope, ends, max(interval_ends(off, noise)), error)


def _line(x: Array, y: Array) -> tuple[float, float]:
    """(value at 0, slope) of the least squares, the slope drawn to zero."""
    centred = x - x.mean()
    slope = float(centred @ y) / (float(centred @ centred) + CAUTION)
    return float(y.mean() - slope * x.mean()), slope
