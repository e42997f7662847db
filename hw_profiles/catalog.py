"""Device files: those of the package and the user's, read, checked, and with their models fitted."""

import json
from collections.abc import Mapping
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from ..documents import read_text, read_yaml
from ..errors import UserError, unknown
from ..plugins import load_plugins
from .device import Device, parsed
from .fits import keep, kept
from .points import Validity

DEVICES = Path(__file__).parent / "devices"


def json_schema() -> str:
    """The JSON schema of a device file; `docs/device.schema.json` is this text."""
    schema = Device.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=1) + "\n"


_registered: dict[str, Device] = {}
"""As their files state them: nothing is fitted."""


def device_names() -> list[str]:
    """Names of the devices of the package, of plug-ins, and of `nas.register.device`.

    >>> "jetson-orin" in nas.device_names()
    True
    """
    load_plugins()
    return sorted({*_own_names(), *_registered})


def _own_names() -> list[str]:
    return [path.stem for path in DEVICES.glob("*.yaml")]


def register_device(source: str | PathLike[str] | Mapping[str, Any]) -> str:
    """See `nas.register.device`."""
    if isinstance(source, Mapping):
        device = _complete(parsed(lambda: Device.model_validate(source), "the device"))
    else:
        device = read_device(Path(source))
    if device.name in _own_names() or _registered.get(device.name, device) != device:
        raise UserError(f"there is a device {device.name!r} already; give this one another name")
    _registered[device.name] = device
    return device.name


def load_device(name_or_path: str | PathLike[str]) -> Device:
    """A device by name (`device_names()`) or from a user's file (.yaml, .yml, .json), with its latency model.

    >>> nas.load_device("jetson-orin").precision
    'fp16'
    """
    text = fspath(name_or_path)
    if Path(text).suffix in (".yaml", ".yml", ".json"):
        return _load(Path(text))
    return _named(text)


@lru_cache(maxsize=64)
def _named(name: str) -> Device:
    return _load(DEVICES / f"{name}.yaml") if name in _own_names() else read_named(name).fitted()


def listed_device(name: str) -> Device:
    """As `load_device(name)`; nothing is measured, so that the local machine has no model."""
    return _load(DEVICES / f"{name}.yaml", measure=False) if name in _own_names() else _named(name)


def read_named(name: str) -> Device:
    """The device of that name as its file states it. Error: unknown, with the valid names, nearest first."""
    if name not in device_names():
        raise unknown("device", name, device_names())
    return _registered[name] if name in _registered else read_device(DEVICES / f"{name}.yaml")


def _load(path: Path, *, measure: bool = True) -> Device:
    text = read_text(path, "the device file")
    if device := kept(text):
        return device
    device = read_device(path)
    if device.measurable:  # its fit starts from what this machine reaches now
        return device.fitted() if measure else device
    device = device.fitted()
    keep(text, device)
    return device


def read_device(path: Path) -> Device:
    """The device of a file as it stands there: nothing is fitted yet."""
    content = read_yaml(path, "the device file")  # JSON is YAML
    return _complete(parsed(lambda: Device.model_validate(content), f"the device file {path}"))


def _complete(device: Device) -> Device:
    if device.calibration is None or device.validity is not None:
        return device
    return device.model_copy(update={"validity": Validity.of(device.calibration)})
