"""Latency measured on this machine with one of its runtimes, and a device fitted to what was measured."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf

import numpy as np
import torch
from torch import nn

from ...errors import UserError
from ...search_space.inputs import Inputs
from ...search_space.temporary import evaluating
from ..cost import Cost
from ..device import Device
from ..models.latency import LatencyModel, Tier
from ..runtimes import load_runtime
from ..runtimes.base import Model
from .timing import Measurement, Protocol, time_in_turns

__all__ = ["Measurement", "Protocol", "calibrate", "measure", "measure_all", "measure_beside"]

FEWEST = 5
Pair = tuple[Model, Inputs]


def measure(
    model: Model,
    example: Inputs,
    *,
    protocol: Protocol | None = None,
    runtime: str = "torch",
    threads: int | None = None,
) -> Measurement:
    """Time a module (or the path of an ONNX file) on this machine. The module's mode is restored.

    example: a tensor is the one argument, a sequence all arguments, a mapping all keywords.
    threads: default torch's current number.
    """
    return measure_all([(model, example)], protocol=protocol, runtime=runtime, threads=threads)[0]


def measure_all(
    pairs: Sequence[Pair],
    *,
    protocol: Protocol | None = None,
    runtime: str = "torch",
    threads: int | None = None,
) -> list[Measurement]:
    """Time several models in turns, the first of them for reference; each in the way of `measure`."""
    return measure_beside(pairs, pairs[0], protocol=protocol, runtime=runtime, threads=threads)[0] if pairs else []


def measure_beside(
    pairs: Sequence[Pair],
    reference: Pair,
    *,
    protocol: Protocol | None = None,
    runtime: str = "torch",
    threads: int | None = None,
    fastest_ms: float = inf,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Measurement], Measurement]:
    """As `measure_all`, with a reference net between the turns (see `timing`), whose own time comes second.

    fastest_ms: what the reference took before, where only the machine at its fastest counts.
    """
    chosen, count = load_runtime(runtime), threads or torch.get_num_threads()
    wanted = [*pairs, reference]
    with evaluating(*(model for model, _ in wanted if isinstance(model, nn.Module))), own_threads():
        calls = [chosen.prepare(model, example, count) for model, example in wanted]
        return time_in_turns(calls[:-1], calls[-1], protocol, fastest_ms=fastest_ms, progress=progress)


@contextmanager
def own_threads() -> Iterator[None]:
    """torch's threads, put back."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def calibrate(pairs: Sequence[tuple[Cost, Measurement]], device: Device) -> Device:
    """The device with a model fitted to nets that were measured on it; its interval from nets left out.

    UserError below 5 nets.
    """
    if len(pairs) < FEWEST:
        raise UserError(f"a device is calibrated with {FEWEST} measured nets or more, not {len(pairs)}")
    costs, latencies = [device.as_run(cost) for cost, _ in pairs], [m.median_ms for _, m in pairs]
    noise = float(np.median([m.noise for _, m in pairs]))
    return device.with_model(LatencyModel.fit(costs, latencies, device, tier=measured_tier(len(pairs)), noise=noise))


def measured_tier(nets: int) -> Tier:
    """The tier of a device on which so many nets were measured."""
    return "A" if nets >= 100 else "B"
