"""This machine as a search sees it: profiled once for each run, and at the pace at which it runs now."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..hw_profiles import Device, load_device
from ..hw_profiles.profile import Progress, Setting, profile
from .candidates import Candidates

CALIBRATION_NETS = 40
PACE_NETS = 6
"""Nets that are timed before a search, to see how fast this machine runs now."""
PACE_SECONDS = 0.5


def calibrated(candidates: Candidates, folder: Path, progress: Progress | None = None) -> Device:
    """This machine as a device fitted to nets of the space (see `profile`), at the pace at which it runs now.

    The profile is kept in `folder` and used again; delete the file to measure anew.
    """
    device = candidates.device
    if device.calibration is None:  # else it is a profile: measured already, and better
        path = folder / f"{device.name}-batch{candidates.batch}.json"
        device = load_device(path) if path.exists() else _profiled(candidates, path, progress)
    return _paced(replace(candidates, device=device))


def _profiled(candidates: Candidates, path: Path, progress: Progress | None) -> Device:
    device, shape = candidates.device, candidates.task.input_shape
    setting = Setting(device.local_runtime, device.threads or 1, candidates.batch)
    space, nets = candidates.supernet.space, min(CALIBRATION_NETS, candidates.supernet.space.size)
    return profile(device, space, int(nets), setting=setting, input_shape=shape, out=path, progress=progress)


def _paced(candidates: Candidates) -> Device:
    """The device with its model scaled to some nets that are timed now, if they are outside of its interval."""
    space, rng, device = candidates.supernet.space, np.random.default_rng(0), candidates.device
    nets = list(dict.fromkeys([space.smallest, space.largest, *(space.sample(rng) for _ in range(PACE_NETS - 2))]))
    now = [m.median_ms for m in candidates.measure(nets, PACE_SECONDS)]
    pace = float(np.median([ms / candidates.latency(net).mean_ms for net, ms in zip(nets, now, strict=True)]))
    if device.model is None or device.model.low_factor <= pace <= device.model.high_factor:
        return device
    return device.with_model(replace(device.model, pace=pace))


def pace_notes(device: Device) -> list[str]:
    """What a user should know, if the machine was found to run at another pace."""
    pace = device.model.pace if device.model else 1.0
    if pace == 1:
        return []
    return [
        f"{PACE_NETS} nets that were timed first take {pace:.2f} times what the profile of {device.name} says: this "
        "machine runs at another speed than when it was profiled. All predictions are scaled to the present."
    ]
