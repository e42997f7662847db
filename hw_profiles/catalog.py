"""Device files: those of the package and the user's, read, checked, and with their models fitted."""

import json
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path

from ..documents import read_text, read_yaml
from ..errors import unknown
from .device import Device, parsed
from .fits import keep, kept
from .points import Validity

DEVICES = Path(__file__).parent / "devices"


def json_schema() -> str:
    """The JSON schema of a device file; `docs/device.schema.json` is this text."""
    schema = Device.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=1) + "\n"


def device_names() -> list[str]:
    """Names of the devices that come with the package.

    >>> "jetson-orin" in nas.device_names()
    True
    """
    return sorted(path.stem for path in DEVICES.glob("*.yaml"))


def load_device(name_or_path: str | PathLike[str]) -> Device:
    """A device by name (`device_names()`) or from a user's file (.yaml, .yml, .json), with its latency model.

    >>> nas.load_device("jetson-orin").precision
    'fp16'
    """
    text = fspath(name_or_path)
    if Path(text).suffix in (".yaml", ".yml", ".json"):
        return _load(Path(text))
    if text not in device_names():
        raise unknown("device", text, device_names())
    return _packaged(text)


@lru_cache(maxsize=64)
def _packaged(name: str) -> Device:
    return _load(DEVICES / f"{name}.yaml")


def listed_device(name: str) -> Device:
    """As `load_device`, of the package; nothing is measured, so that the local machine has no model."""
    return _load(DEVICES / f"{name}.yaml", measure=False)


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
    device = parsed(lambda: Device.model_validate(content), f"the device file {path}")
    if device.calibration is None or device.validity is not None:
        return device
    return device.model_copy(update={"validity": Validity.of(device.calibration)})
