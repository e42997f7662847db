"""Latency measured on this machine, and a device fitted to what was measured.

Protocol: inference mode, warm-up, then single calls until the 95 % interval of their median is narrow or the time is
up. Several nets are timed in turns, one call each in every round, so that a machine that slows down or is disturbed
does so for all alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from .cost import Cost
from .device import Device
from .latency import Tier, fit

FEWEST = 5
KIND_SPREAD = 0.7
"""Log standard deviation, before any measurement, of the launch cost of one kind of operator about another's."""


@dataclass(frozen=True)
class Protocol:
    """How long to measure."""

    warmup: int = 3
    least_repeats: int = 20
    most_repeats: int = 2000
    seconds: float = 2.0
    """Time limit, per net."""
    precision: float = 0.01
    """Enough when the 95 % interval of the median is within +- this share of it."""


@dataclass(frozen=True)
class Measurement:
    """Median and 95th percentile of single calls; `noise`: half-width of the median's 95 % interval, as a share."""

    median_ms: float
    p95_ms: float
    noise: float
    repeats: int


Example = Tensor | Sequence[Tensor]


def measure(module: nn.Module, example: Example, *, protocol: Protocol | None = None) -> Measurement:
    """Time `module(example)` on this machine, with torch's current threads. The module's mode is restored."""
    return measure_all([(module, example)], protocol=protocol)[0]


def measure_all(pairs: Sequence[tuple[nn.Module, Example]], *, protocol: Protocol | None = None) -> list[Measurement]:
    """Time several modules in turns; each in the way of `measure`."""
    protocol = protocol or Protocol()
    modes = [[(m, m.training) for m in module.modules()] for module, _ in pairs]
    try:
        return _rounds([(module.eval(), _arguments(example)) for module, example in pairs], protocol)
    finally:
        for m, training in (entry for mode in modes for entry in mode):
            m.training = training


def calibrate(pairs: Sequence[tuple[Cost, Measurement]], device: Device) -> Device:
    """The device with the roofline fitted to nets that were measured on it; its interval from nets left out.

    The device's own model before (benchmark, datasheet or published points) is the prior. UserError below 5 nets.
    """
    if len(pairs) < FEWEST:
        raise UserError(f"a device is calibrated with {FEWEST} measured nets or more, not {len(pairs)}")
    before, start = device.model, device.prior()
    prior = replace(start, rates=before.rates if before else start.rates, kind_spread=KIND_SPREAD)
    costs, latencies = [cost for cost, _ in pairs], [m.median_ms for _, m in pairs]
    tier: Tier = "A" if len(pairs) >= 100 else "B"
    model = fit(costs, latencies, prior, tier=tier, precision=device.precision, fuses=device.fuses)
    return device.with_model(model)


def _arguments(example: Example) -> tuple[Tensor, ...]:
    return (example,) if isinstance(example, Tensor) else tuple(example)


def _rounds(pairs: list[tuple[nn.Module, tuple[Tensor, ...]]], protocol: Protocol) -> list[Measurement]:
    times: list[list[float]] = [[] for _ in pairs]
    waiting = list(range(len(pairs)))
    with torch.inference_mode():
        for module, arguments in pairs:
            for _ in range(protocol.warmup):
                module(*arguments)
        while waiting:
            for i in waiting:
                times[i].append(_once(*pairs[i]))
            waiting = [i for i in waiting if not _enough(times[i], protocol)]
    return [_summary(t) for t in times]


def _once(module: nn.Module, arguments: tuple[Tensor, ...]) -> float:
    start = perf_counter()
    module(*arguments)
    return perf_counter() - start


def _enough(times: list[float], protocol: Protocol) -> bool:
    n = len(times)
    if n >= protocol.most_repeats or sum(times) >= protocol.seconds:
        return True
    # Sorting on every call would cost more than a small net; look at every tenth.
    return n >= protocol.least_repeats and n % 10 == 0 and _noise(np.sort(times)) <= protocol.precision


def _noise(ordered: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Half-width of the median's 95 % interval, from order statistics (binomial), as a share of the median."""
    n = len(ordered)
    reach = 0.98 * sqrt(n)  # 1.96 x sqrt(n) / 2
    low, high = max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))
    return float((ordered[high] - ordered[low]) / 2 / np.median(ordered))


def _summary(times: list[float]) -> Measurement:
    ordered = np.sort(times)
    return Measurement(
        1e3 * float(np.median(ordered)), 1e3 * float(np.quantile(ordered, 0.95)), _noise(ordered), len(times)
    )
