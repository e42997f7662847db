"""This machine as a search sees it: profiled once for each run, and at the pace at which it runs now."""

from dataclasses import replace
from hashlib import sha256
from math import log
from pathlib import Path

import numpy as np
import pandas as pd

from ..files import write_atomic
from ..hw_profiles import Device, load_device
from ..hw_profiles.measuring.profile import Progress, Setting, profile
from ..predictors.latency import Timed
from ..search_space.quantization import GENE
from .candidates import Candidates
from .manifest import check_kept, keep
from .requests import timed_requests
from .storage import space_id

CALIBRATION_NETS = 60
"""With 40 the grey box is now and then twice as far off; with 60 it is not (docs/benchmarks.md)."""
PACE_NETS = 6
"""Nets that are timed before a search, to see how fast this machine runs now."""
PACE_SECONDS = 0.5
SLACK = 1.1
"""A pace within this factor is left to the measurements that come before an answer: the study can be gone on with."""


def calibrated(candidates: Candidates, folder: Path, progress: Progress | None = None) -> Candidates:
    """The candidates with the best predictor of their latency that there is.

    This machine is profiled on nets of the space (see `profile`), and taken at the pace at which it runs now. The
    profile is kept in `folder` and used again; delete the file to measure anew. Where nets of the space were timed, on
    whatever device, learned predictors are compared with its latency model, in a table kept in `folder`.
    Of requests to language models a few are timed here instead (see `requests`).
    """
    if candidates.request is not None:
        if not candidates.device.measurable:
            return candidates
        candidates = replace(candidates, device=timed_requests(candidates, folder))
        return replace(candidates, device=_paced(candidates))
    if candidates.device.measurable:
        candidates = replace(candidates, device=_measured(candidates, folder, progress))
    timed = Timed.of(candidates.device, candidates.supernet.space, candidates.cost)
    candidates = replace(candidates, learned=timed.winner(_compared(timed, folder)))
    return replace(candidates, device=_paced(candidates)) if candidates.device.measurable else candidates


def _measured(candidates: Candidates, folder: Path, progress: Progress | None) -> Device:
    device = candidates.device
    space = candidates.supernet.space
    policies = f"-quantized-{space_id(space)[:8]}" * any(gene.startswith(GENE) for gene in space.genes)
    path = folder / f"{device.name}-batch{candidates.batch}{policies}.json"
    if device.calibration is not None:  # it is a profile: measured already, and better
        return device
    if not path.exists():
        setting = Setting(device.local_runtime, device.threads or 1, candidates.batch)
        nets = min(CALIBRATION_NETS, space.size)
        profile(device, space, int(nets), setting=setting, task=candidates.task, out=path, progress=progress)
        keep(path)
    check_kept(path)
    return load_device(path)  # as the next call will find it: it goes on with the same study


def _compared(timed: Timed, folder: Path) -> pd.DataFrame | None:
    """The comparison of predictors for these very points, made once."""
    points = repr([(net.id, ms) for net, ms in zip(timed.nets, timed.latencies_ms, strict=True)])
    path = folder / f"predictors-{timed.device.name}-{sha256(points.encode()).hexdigest()[:8]}.csv"
    if not path.exists():
        table = timed.compare()
        if table is None:
            return None
        write_atomic(path, table.to_csv(float_format="%.4g"))
        keep(path)
    check_kept(path)
    return pd.read_csv(path, index_col=0)


def _paced(candidates: Candidates) -> Device:
    """The device with its model scaled to some nets that are timed now, if these are far off."""
    space, rng, device = candidates.supernet.space, np.random.default_rng(0), candidates.device
    nets = list(dict.fromkeys([space.smallest, space.largest, *(space.sample(rng) for _ in range(PACE_NETS - 2))]))
    now = [m.median_ms for m in candidates.measure(nets, PACE_SECONDS)]
    pace = float(np.median([ms / candidates.latency(net).value for net, ms in zip(nets, now, strict=True)]))
    if device.model is None or not abs(log(pace)) > max(log(SLACK), log(device.model.high_factor)):
        return device
    return device.with_model(replace(device.model, pace=pace))


def prediction_notes(candidates: Candidates) -> list[str]:
    """What a user should know of how latencies are predicted."""
    device, learned, notes = candidates.device, candidates.learned, []
    if learned is not None:
        notes.append(
            f"Latencies are predicted from the genes by {learned.name}, which misses nets left out by "
            f"{learned.error:.1%} in the mean and so beats the latency model of {device.name}."
        )
    if candidates.request is not None and device.measurable:
        notes.append(f"Requests ({candidates.request.text}) were timed with PyTorch, {device.threads or 1} thread(s).")
    pace = device.model.pace if device.model else 1.0
    if pace == 1:
        return notes
    return [
        *notes,
        f"{PACE_NETS} nets that were timed first take {pace:.2f} times what the profile of {device.name} says: this "
        "machine runs at another speed than when it was profiled. All predictions are scaled to the present.",
    ]
