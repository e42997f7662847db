"""Which profiled device is the most alike: where the profile of a new one may start."""

from collections.abc import Iterable
from math import log

from .catalog import device_names, load_device
from .device import Device


def nearest(device: Device, among: Iterable[Device] | None = None) -> Device | None:
    """The profiled device of the same kind, runtime and batch mode whose datasheet is the most alike; None: none.

    among: the devices of the package, unless others are given. A change of runtime costs more than one of device, so
    another runtime is never near.
    """
    own = device.prior().rates
    result = among if among is not None else [load_device(name) for name in device_names()]

    def distance(other: Device) -> float:
        rates = other.prior().rates
        return abs(log(own.flops_per_s / rates.flops_per_s)) + abs(log(own.bytes_per_s / rates.bytes_per_s))

    alike = [d for d in result if d.calibration is not None and d.name != device.name and _key(d) == _key(device)]
    return min(alike, key=distance, default=None)


def _key(device: Device) -> tuple[str, str, str]:
    return device.kind, device.runtime.name, device.batch_mode
