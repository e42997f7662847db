"""How far a profile's predictions are off for nets that its model had not seen."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ..values import Estimate
from .device import Device, default_model
from .models.latency import below, missed
from .models.rank import rank_of
from .points import Error, Point, Rate

Array = NDArray[np.float64]
A_NET = Point(
    model="any", input="any", source="none", trust="paper", latency_ms=1, operators=[("matmul", 50, 1e3, 20.0, 10.0)]
)
"""Stands for a user's net where a profile has none of its own: 0.5 GMACs in 50 kernels."""
PARTS = 10
"""Up to three times so many points are left out one by one; more, and families, in so many parts: the figures are
alike."""


def left_out(device: Device, *, by_family: bool = False) -> list[Estimate]:
    """What is predicted for each fitted point from the others, or from other families; in the points' order.

    The interval is that of the whole profile. Empty without a calibration, or by family where there is one only.
    """
    nets = device.calibration.fitted if device.calibration else []
    fold = _folds(nets, by_family)
    if len(set(fold.tolist())) < 2:
        return []
    fitted = device if device.model else device.with_model(default_model(device))
    off = _missed(fitted, nets, fold)
    return [_moved(fitted.of_net(net), net.period_ms * float(np.exp(-m))) for net, m in zip(nets, off, strict=True)]


def error_of(device: Device) -> Error:
    """The stated error of a measured profile; else it follows from the points. Of a datasheet: its interval."""
    if device.error is not None:
        return device.error
    if device.calibration is None:
        return Error(tier=below("C"), quantile_90=factor(device))
    true = np.array([net.period_ms for net in device.calibration.fitted])
    one, family = (
        np.array([time.value for time in left_out(device, by_family=by_family)]) for by_family in (False, True)
    )
    return Error(
        tier=device.calibration.tier,
        leave_one_out=float(np.mean(np.abs(one / true - 1))),
        leave_family_out=float(np.mean(np.abs(family / true - 1))) if len(family) else None,
        rank=rank_of(np.log(true), np.log(one), device.calibration.noise or 0.0),
        quantile_90=float(np.quantile(true / one, 0.9)),
        noise=device.calibration.noise,
    )


def factor(device: Device) -> float:
    """The 90 % interval as a factor: from mean / factor to mean x factor. The median over the points, if there are any.

    Square root of upper over lower end, for an interval need not be symmetric.
    """
    if device.calibration is None and device.model is None:
        return device.prior_factor
    nets = device.calibration.fitted if device.calibration else [A_NET]
    times = [device.of_net(net) for net in nets]
    return median(sqrt(time.high / time.low) for time in times)


def _missed(device: Device, nets: Sequence[Point | Rate], fold: NDArray[np.intp]) -> Array:
    """Log of true over predicted of each net, predicted from the other folds by a model of the device's form.

    `default_model` would leave nets out once more, for the interval of each part: that costs ten times as much.
    """
    costs = [device.scaled(net.cost(device.precision)) for net in nets]
    return missed(device.model or default_model(device), costs, [net.period_ms for net in nets], device.prior(), fold)


def _folds(nets: Sequence[Point | Rate], by_family: bool) -> NDArray[np.intp]:
    """Which points are left out together."""
    families = list(dict.fromkeys(net.group for net in nets))
    if by_family:
        return np.array([families.index(net.group) % PARTS for net in nets], dtype=np.intp)
    return np.arange(len(nets)) % (len(nets) if len(nets) <= 3 * PARTS else PARTS)


def _moved(time: Estimate, ms: float) -> Estimate:
    """The interval about another value."""
    scale = ms / time.value
    return replace(time, value=ms, low=scale * time.low, high=scale * time.high)
