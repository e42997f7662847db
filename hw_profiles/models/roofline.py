"""The roofline and its fit: seconds of a net from the FLOPs, bytes and launches of its kernels.

Two forms share everything but one operator:

    roofline: sum over kernels of max(flops / F, bytes / B) + launch      compute and memory overlap wholly
    rates:    sum over kernels of flops / F_k + bytes / B_k + launch_k    each kind k of operator has rates of its own,
                                                                          and compute and memory do not overlap

Real kernels lie between; across a zoo of nets the second is the better one, for the mixed term makes kernels of low
arithmetic intensity less efficient, as they are. The rates are fitted in log space: residuals are those of
log(latency), robust to nets that run unlike all others (Student's t), with the prior's rates as one more observation
of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cost import Cost, bytes_per_element
from ..cost.operators import KINDS
from .priors import Prior, Rates

Array = NDArray[np.float64]
RooflineForm = Literal["roofline", "rates"]

NOISE = 0.12
"""Log standard deviation of a latency about a roofline, before residuals tell: what points weigh beside the prior."""
LOUDEST, WORTH = 0.25, 5.0
"""No estimate is above the first; `NOISE` weighs as much as five nets."""
FREEDOM = 3.0
"""Degrees of freedom of Student's t: about one net in twenty may run unlike its operators (a slow fallback)."""
K = len(KINDS)
LARGEST_BLOCK = 64
"""Channels that kernels handle at a time, at most."""


@dataclass(frozen=True)
class Table:
    """Nets as arrays over groups of kernels.

    kind: its index; launches: kernels; starts: the first row of each net; name: of the operator; blocks: (rows, 2),
    log2 of the largest power of two, up to `LARGEST_BLOCK`, that divides its length and its channels.
    """

    kind: NDArray[np.intp]
    flops: Array
    bytes: Array
    launches: Array
    starts: NDArray[np.intp]
    name: NDArray[np.str_]
    blocks: Array

    def of(self, nets: Sequence[int]) -> "Table":
        """The table of some of its nets."""
        ends = [*self.starts[1:].tolist(), len(self.kind)]
        rows = [np.arange(self.starts[i], ends[i]) for i in nets]
        starts = np.cumsum([0, *(len(r) for r in rows[:-1])])
        index = np.concatenate(rows)
        columns = (self.kind[index], self.flops[index], self.bytes[index], self.launches[index])
        return Table(*columns, starts, self.name[index], self.blocks[index])

    def by_kind(self) -> "Table":
        """The same with the kernels of each net added up by kind: all that the form `rates` sees."""
        nets = np.repeat(np.arange(len(self.starts)), np.diff([*self.starts, len(self.kind)]))
        cell, index = np.unique(nets * K + self.kind, return_inverse=True)
        flops, moved, launches = (
            np.bincount(index, weights=v).astype(np.float64) for v in (self.flops, self.bytes, self.launches)
        )
        starts, names = np.searchsorted(cell // K, np.arange(len(self.starts))), np.array(KINDS)[cell % K]
        return Table(cell % K, flops, moved, launches, starts, names, np.zeros((len(cell), 2)))


def tabulate(costs: Sequence[Cost], precision: str) -> Table:
    """The kernels of each net, rescaled to `precision`."""
    rows: list[tuple[float, float, float, float]] = []
    starts, names, blocks = [], [], []
    for cost in costs:
        scale = bytes_per_element(precision) / bytes_per_element(cost.precision)
        starts.append(len(rows))
        names += [op.name for op in cost.operators] or [""]
        blocks += [(op.length, op.channels) for op in cost.operators] or [(0, 0)]
        rows += [
            (KINDS.index(op.kind), op.count * op.flops, op.count * op.bytes * scale, op.count) for op in cost.operators
        ] or [(0, 0.0, 0.0, 1)]
    columns: Array = np.array(rows, dtype=np.float64).T
    kinds, flops, moved, launches = columns
    whole = np.array(blocks, dtype=np.int64)
    powers = np.log2(np.gcd(whole, LARGEST_BLOCK))  # gcd(0, n) is n
    return Table(
        kinds.astype(np.int64), flops, moved, launches, np.array(starts, dtype=np.intp), np.array(names), powers
    )


def parts(table: Table, rates: Rates, form: RooflineForm) -> tuple[Array, Array, Array]:
    """Seconds of each group of kernels in compute, memory, launches; `roofline` keeps the larger of the first two."""
    compute = table.flops / (rates.flops_per_s * np.asarray(rates.compute_factors)[table.kind])
    memory = table.bytes / (rates.bytes_per_s * np.asarray(rates.memory_factors)[table.kind])
    if form == "roofline":
        compute, memory = np.where(compute >= memory, compute, 0.0), np.where(compute >= memory, 0.0, memory)
    return compute, memory, 1e-6 * rates.launch_us * np.asarray(rates.launch_factors)[table.kind] * table.launches


def seconds(table: Table, rates: Rates, form: RooflineForm) -> Array:
    """Seconds of each net."""
    compute, memory, launch = parts(table, rates, form)
    result: Array = np.add.reduceat(compute + memory + launch, table.starts)
    return result


def fit_rates(table: Table, log_seconds: Array, prior: Prior, form: RooflineForm) -> Rates:
    """The rates that explain the latencies, near the prior where these say nothing.

    How far nets lie from any roofline is a property of device and runtime; it is estimated from the residuals, twice.
    """
    if form == "rates":
        table = table.by_kind()
    noise, rates, n = NOISE, prior.rates, len(log_seconds)
    for _ in range(3):
        rates = _fit(table, log_seconds, prior, form, noise)
        residuals = np.abs(np.log(seconds(table, rates, form)) - log_seconds)
        seen = 1.48 * float(np.median(residuals)) * sqrt(n / max(1, n - 3))
        noise = sqrt((n * min(seen, LOUDEST) ** 2 + WORTH * NOISE**2) / (n + WORTH))
    return rates


def _fit(table: Table, log_seconds: Array, prior: Prior, form: RooflineForm, noise: float) -> Rates:
    from scipy.optimize import least_squares  # here: its import takes a quarter of a second

    centre = prior.rates.log()
    spread = np.concatenate([prior.spread, *(np.full(K, s) for s in prior.kind_spread)])
    free = np.flatnonzero(_free(table, spread, form))

    def rates_of(theta: Array) -> Rates:
        whole = centre.copy()
        whole[free] = theta
        return Rates.exp(whole)

    def residuals(theta: Array) -> Array:
        r = (np.log(seconds(table, rates_of(theta), form)) - log_seconds) / noise
        robust = np.sign(r) * np.sqrt((FREEDOM + 1) * np.log1p(r**2 / FREEDOM))
        return np.concatenate([robust, (theta - centre[free]) / spread[free]])

    def jacobian(theta: Array) -> Array:
        rates = rates_of(theta)
        whole = seconds(table, rates, form)
        r = np.abs(np.log(whole) - log_seconds) / noise
        robust = np.sqrt((FREEDOM + 1) * np.log1p(r**2 / FREEDOM))
        limit = sqrt((FREEDOM + 1) / FREEDOM)  # of the slope, where the residual vanishes
        steep = (FREEDOM + 1) * r / (FREEDOM + r**2) / np.maximum(robust, 1e-6)
        slope = np.where(robust > 1e-6, steep, limit)
        columns = _shares(table, rates, form)[:, free] / whole[:, None] / noise
        return np.concatenate([slope[:, None] * columns, np.diag(1 / spread[free])])

    return rates_of(least_squares(residuals, centre[free], jac=jacobian, max_nfev=80).x)


def _shares(table: Table, rates: Rates, form: RooflineForm) -> Array:
    """(nets, log rates): derivative of the seconds by each log rate; more of a rate is less time, of a launch more."""
    split = np.stack(parts(table, rates, form)) * np.array([[-1.0], [-1.0], [1.0]])
    overall = np.add.reduceat(split, table.starts, axis=1)
    kinds = [np.add.reduceat(np.where(table.kind == k, split, 0.0), table.starts, axis=1) for k in range(K)]
    return np.concatenate([overall, *(np.stack([kind[i] for kind in kinds]) for i in range(3))]).T


def _free(table: Table, spread: Array, form: RooflineForm) -> NDArray[np.bool_]:
    """Which of the log rates the nets can say something about. `roofline` has one rate for all kinds."""
    occurs = np.isin(np.arange(K), table.kind)
    factors = np.zeros_like(occurs) if form == "roofline" else occurs
    return np.concatenate([np.ones(3, dtype=bool), factors, factors, occurs]) & (spread > 0)
