"""Energy and peak memory: models of the same shape as that of latency, over the same traced costs.

Energy is a sum over kernels, as latency is: joules for each FLOP, each byte and each launch. Where nothing was measured
it is the predicted latency times a share of the rated power. Peak memory is a sum, too: copies of the weights, of the
activations that live at once (`Cost.peak_activation_bytes`), something for each kernel, and what a session of the
runtime takes. `LatencyModel` fits either; its unit is then mJ or MiB in the place of ms.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log

from ...values import ENERGY, MEMORY, Estimate
from ..cost import Cost, OperatorCost
from ..cost.operators import KINDS, WEIGHT_BYTES
from .latency import LatencyModel, Tier, analytic, fit, predict
from .priors import Prior, Rates

FEWEST = 3
"""Measured nets from which a model is fitted."""
LOAD, LEAST_LOAD = 0.7, 0.3
"""Shares of the rated power that a device draws while it runs a net: as a rule, and at least. More than all of it is
not drawn for long."""
TYPICAL_WATTS = 50.0


def energy_of(model: LatencyModel, cost: Cost) -> Estimate:
    """Energy of one call, by a model that was fitted to energies."""
    return replace(predict(model, cost), metric=ENERGY)


def drawn(time: Estimate, watts: float) -> Estimate:
    """Energy of a device of which only the rated power is known: milliseconds times watts are millijoules."""
    value, low, high = LOAD * watts * time.value, LEAST_LOAD * watts * time.low, watts * time.high
    return Estimate(ENERGY, value, low, high, "analytic", "D")


def fit_energy(
    costs: Sequence[Cost], energies_mj: Sequence[float], prior: Prior, watts: float | None, tier: Tier, precision: str
) -> LatencyModel:
    """prior: of the latency; a second of it costs `LOAD` of the rated power."""
    power, rates = LOAD * (watts or TYPICAL_WATTS), prior.rates
    centre = replace(
        rates,
        flops_per_s=rates.flops_per_s / power,
        bytes_per_s=rates.bytes_per_s / power,
        launch_us=rates.launch_us * power,
    )
    return fit(costs, energies_mj, replace(prior, rates=centre), tier=tier, precision=precision)


def memory_of(model: LatencyModel | None, cost: Cost, precision: str) -> Estimate:
    """Peak memory of a net beyond that of the bare runtime. model: None, where nothing was measured."""
    result = predict(model or analytic(MEMORY_PRIOR, precision), memory_cost(cost, precision))
    return replace(result, metric=MEMORY)


def fit_memory(costs: Sequence[Cost], peaks_mib: Sequence[float], tier: Tier, precision: str) -> LatencyModel:
    """costs: with their `peak_activation_bytes`."""
    rows = [memory_cost(cost, precision) for cost in costs]
    return fit(rows, peaks_mib, MEMORY_PRIOR, tier=tier, precision=precision, form="rates")


def memory_cost(cost: Cost, precision: str) -> Cost:
    """What memory is a sum of, as if each were a kernel: weights, live activations, kernels.

    The weights count as its FLOPs, which take no memory: they say how far a net is beyond those that were measured.
    """
    scale = WEIGHT_BYTES[precision] / WEIGHT_BYTES[cost.precision]
    rows = [
        OperatorCost("weights", "gather", float(cost.params), cost.params * WEIGHT_BYTES[precision], 0.0),
        OperatorCost("activations", "elementwise", 0.0, cost.peak_activation_bytes * scale, 0.0),
        OperatorCost("kernels", "other", 0.0, 0.0, 0.0, max(1, cost.kernels)),
    ]
    return Cost.from_operators(rows, precision=precision)


def _memory_prior() -> Prior:
    """8 MiB for the session, 5 KiB for each kernel, weights twice (as read, and packed for the kernels)."""
    memory, launch = [1.0] * len(KINDS), [1.0] * len(KINDS)
    memory[KINDS.index("gather")] = 0.5
    launch[KINDS.index("elementwise")] = 1e-6
    launch[KINDS.index("other")] = 5 / 1024 / 8
    # "Seconds" are GiB/1000 here, so that milliseconds are MiB; no FLOP takes memory.
    rates = Rates(1e30, 2.0**20 * 1e3, 8e3, tuple(launch), memory_factors=tuple(memory))
    return Prior(rates, spread=(0.0, 0.5, 1.0), factor=3.0, kind_spread=(0.0, log(2.0), log(3.0)))


MEMORY_PRIOR = _memory_prior()
