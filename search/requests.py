"""Latency models of this machine for requests to language models, fitted to a few nets that serve some."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import write_atomic
from ..hw_profiles import Device, LatencyModel, load_device
from ..hw_profiles.cost import Cost
from ..hw_profiles.measuring.pool import spread
from ..hw_profiles.measuring.serving import Served
from ..hw_profiles.models.tail import fit_tail
from ..hw_profiles.runtimes import torch as pytorch
from ..hw_profiles.schema import Runtime
from ..search_space.architecture import Architecture
from .candidates import Candidates
from .manifest import check_kept, keep

POOL, NETS = 40, 8
"""Nets that are drawn, and those of them, spread over the time, that are timed: each gives three points."""
SECONDS = 2.0
"""Time limit of the prefills of a net, and of its steps."""


def timed_requests(candidates: Candidates, folder: Path) -> Device:
    """The device with a model of prefills, steps and requests as PyTorch runs them here.

    It is kept in `folder` and used again; delete the file to measure anew.
    """
    device, request = candidates.device, candidates.request
    assert request is not None
    path = folder / f"{device.name}-batch{request.batch}-prompt{request.prompt}-generate{request.generate}.json"
    if not path.exists():
        nets = _nets(candidates)
        served = [m for m in candidates.measure(nets, SECONDS) if isinstance(m, Served)]
        write_atomic(path, _fitted(candidates, nets, served).to_json())
        keep(path)
    check_kept(path)
    return load_device(path)


def _nets(candidates: Candidates) -> list[Architecture]:
    space, rng = candidates.supernet.space, np.random.default_rng(0)
    drawn = list(dict.fromkeys([space.smallest, space.largest, *(space.sample(rng) for _ in range(POOL - 2))]))
    times = [candidates.device.latency(candidates.cost(net)).value for net in drawn]
    return [drawn[at] for at in spread(times, NETS)]


def _fitted(candidates: Candidates, nets: Sequence[Architecture], served: Sequence[Served]) -> Device:
    # PyTorch runs one kernel after the other, as they were traced.
    runtime = Runtime(name="torch", version=pytorch.version())
    device = candidates.device.model_copy(update={"runtime": runtime, "fuses": False})
    costs: list[Cost] = []
    for net in nets:
        counted = candidates.served(net)
        costs += [counted.whole, counted.prefill, counted.step]
    times = [(ms, p95) for m in served for ms, p95 in _times(m)]
    groups = [net.id for net in nets for _ in range(3)]
    noise = float(np.median([m.noise for m in served]))
    model = LatencyModel.fit(costs, [ms for ms, _ in times], device, groups, noise=noise)
    tail = fit_tail(costs, times, model, device.prior(), noise)
    return device.with_model(model).model_copy(update={"p95_model": tail})


def _times(m: Served) -> list[tuple[float, float]]:
    """Medians and 95th percentiles of the request, the prefill and the step."""
    return [(m.median_ms, m.p95_ms), (m.ttft_ms, m.ttft_p95_ms), (m.tpot_ms, m.tpot_p95_ms)]
