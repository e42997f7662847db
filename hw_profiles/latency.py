"""From a cost to milliseconds: the roofline, its priors, its fit and its interval.

latency = sum over kernels of max(flops / F, bytes / B) + launch(kind)

F and B are what the device reaches at batch 1, not what its vendor states. Without measurements they are the stated
rates times the shares of `priors.KINDS`; with measurements they are fitted in log space, the prior as regulariser.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student

from .cost import KINDS, Cost, bytes_per_element, fused
from .priors import Prior, Rates

Source = Literal["measured", "calibrated", "analytic"]
Tier = Literal["A", "B", "C", "D"]
Array = NDArray[np.float64]

CONFIDENCE = 0.9
NOISE = 0.1
"""Log standard deviation of a published latency about a roofline; weighs the points against the prior."""
NARROWEST = log(1.05)
"""No interval is narrower than 5 %: a measurement repeated on another day moves by as much."""
PER_DECADE = log(1.5)
"""Half-width (log) that is added for each factor 10 in FLOPs beyond the range of the calibration."""


@dataclass(frozen=True)
class Latency:
    """A latency and its 90 % interval.

    Tier: A fitted to 100 nets or more measured on this very device, B to 5-99, C to published points, D datasheet only.
    """

    mean_ms: float
    low_ms: float
    high_ms: float
    source: Source
    tier: Tier


@dataclass(frozen=True)
class LatencyModel:
    """Rates, the factors of the 90 % interval about the mean, and where both hold."""

    rates: Rates
    low_factor: float
    high_factor: float
    source: Source
    tier: Tier
    precision: str
    fuses: bool
    """The runtime runs element-wise operators inside their producers (`cost.fused`)."""
    widest: float
    """Beyond the calibration's range the interval grows to this factor, that of the datasheet alone, and no further."""
    flops_range: tuple[float, float] | None = None
    """Range of FLOPs of the nets that it was fitted to; None: not fitted."""


def predict(model: LatencyModel, cost: Cost) -> Latency:
    """Latency of a cost; one that was traced at another precision is rescaled to the model's."""
    mean = 1e3 * float(_seconds(_table(cost, model.precision, model.fuses), model.rates.log()))
    wider, tier = 0.0, model.tier
    if model.flops_range is not None:
        least, most = model.flops_range
        flops = max(cost.flops, 1.0)
        decades = max(0.0, log(least / flops), log(flops / most)) / log(10)
        wider, tier = decades * PER_DECADE, _below(tier) if decades else tier
    low, high = -log(model.low_factor), log(model.high_factor)
    low, high = (min(side + wider, max(log(model.widest), side)) for side in (low, high))
    return Latency(mean, mean * exp(-low), mean * exp(high), model.source, tier)


def _below(tier: Tier) -> Tier:
    """Outside its range a model is worth one tier less."""
    lower: Mapping[Tier, Tier] = {"A": "B", "B": "C", "C": "D", "D": "D"}
    return lower[tier]


def analytic(prior: Prior, precision: str, fuses: bool) -> LatencyModel:
    """The model of a device of which only the datasheet is known."""
    return LatencyModel(
        prior.rates, 1 / prior.factor, prior.factor, "analytic", "D", precision, fuses, widest=prior.factor
    )


def fit(
    costs: Sequence[Cost], latencies_ms: Sequence[float], prior: Prior, *, tier: Tier, precision: str, fuses: bool
) -> LatencyModel:
    """The roofline fitted to latencies of known nets; its interval from the residuals of nets left out."""
    tables = [_table(cost, precision, fuses) for cost in costs]
    seconds = np.log(np.asarray(latencies_ms) / 1e3)
    rates = Rates.exp(_fit_rates(tables, seconds, prior))
    half = interval_half_width(_left_out(tables, seconds, prior))
    flops = [cost.flops for cost in costs]
    return LatencyModel(
        rates,
        exp(-half),
        exp(half),
        "calibrated",
        tier,
        precision,
        fuses,
        widest=max(prior.factor, exp(half)),
        flops_range=(min(flops), max(flops)),
    )


def interval_half_width(residuals: Array) -> float:
    """Half-width (log) of a 90 % interval, from log residuals of points that were left out.

    From 20 points on the conformal quantile (Vovk et al. 2005); below, where it would rest on the two largest,
    Student's t, which is as wide as few points deserve.
    """
    n = len(residuals)
    if n >= 20:
        rank = min(n, ceil((n + 1) * CONFIDENCE))
        half = float(np.sort(np.abs(residuals))[rank - 1])
    else:
        half = float(student.ppf((1 + CONFIDENCE) / 2, n - 1) * sqrt(np.mean(residuals**2)) * sqrt(1 + 1 / n))
    return max(half, NARROWEST)


def _left_out(tables: Sequence[Array], seconds: Array, prior: Prior) -> Array:
    """Log residual of each net, predicted from the others: leave one out, or ten folds where there are many."""
    n = len(tables)
    fold = np.arange(n) % min(n, 10 if n > 30 else n)
    residuals = np.empty(n)
    for k in range(int(fold.max()) + 1):
        kept = np.flatnonzero(fold != k).tolist()
        theta = _fit_rates([tables[i] for i in kept], seconds[kept], prior)
        for i in np.flatnonzero(fold == k).tolist():
            residuals[i] = seconds[i] - np.log(_seconds(tables[i], theta))
    return residuals


def _fit_rates(tables: Sequence[Array], seconds: Array, prior: Prior) -> Array:
    """Log rates: least squares of the log residuals, with the prior's rates as one more observation of each."""
    fixed = prior.rates.log()
    free = len(fixed) if prior.kind_spread else 3
    spread = np.full(len(fixed), prior.kind_spread)
    spread[:3] = prior.spread
    centre, spread = fixed[:free], spread[:free]
    stacked = np.concatenate(tables, axis=1)
    starts = np.cumsum([0, *(table.shape[1] for table in tables[:-1])])

    def residuals(theta: Array) -> Array:
        predicted = np.add.reduceat(_kernel_seconds(stacked, np.concatenate([theta, fixed[free:]])), starts)
        return np.concatenate([(np.log(predicted) - seconds) / NOISE, (theta - centre) / spread])

    return np.concatenate([least_squares(residuals, centre).x, fixed[free:]])


def _table(cost: Cost, precision: str, fuses: bool) -> Array:
    """(3, kernels): FLOPs, bytes and kind (its index) of each kernel, as the runtime sees them."""
    scale = bytes_per_element(precision) / bytes_per_element(cost.precision)
    operators = (fused(cost) if fuses else cost).operators
    rows = [(op.flops, op.bytes * scale, KINDS.index(op.kind)) for op in operators]
    return np.array(rows, dtype=np.float64).reshape(-1, 3).T


def _kernel_seconds(table: Array, theta: Array) -> Array:
    flops_per_s, bytes_per_s, launch_us, *factors = np.exp(theta)
    launch = 1e-6 * launch_us * np.asarray(factors)[table[2].astype(np.intp)]
    result: Array = np.maximum(table[0] / flops_per_s, table[1] / bytes_per_s) + launch
    return result


def _seconds(table: Array, theta: Array) -> float:
    return float(_kernel_seconds(table, theta).sum())
