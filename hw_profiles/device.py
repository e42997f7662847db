"""Devices: files that say what is known of a device and from whom, and the latency that follows.

A device is one YAML file: a datasheet (`spec`, each value with its source) and, where there are any, published
measurements (`calibration`). Drop a file into `devices/`, or give a path: nothing else is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from ..errors import UserError, unknown
from .benchmark import local_rates
from .cost import PRECISION_BYTES, Cost, Kind, OperatorCost, trace_cost
from .latency import Latency, LatencyModel, analytic, fit, predict
from .priors import Prior, prior_of

Text = Annotated[str, Field(min_length=2)]
Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
OperatorRow = tuple[Kind, Annotated[int, Field(gt=0)], float, float, float]
"""Sum over the kernels of one kind: (kind, kernels, MFLOPs, million elements read, million elements written)."""

DEVICES = Path(__file__).parent / "devices"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(_Frozen):
    """A number of the datasheet and who says so."""

    value: float = Field(gt=0)
    kind: Literal["vendor", "derived", "unverified"]
    source: Text
    note: str | None = None


class Spec(_Frozen):
    """Dense peak rates and memory; what has no source is absent."""

    tflops: dict[Precision, Value] = Field(default_factory=dict)
    bandwidth_gb_s: Value | None = None
    memory_gb: Value | None = None
    power_w: Value | None = None


class Point(_Frozen):
    """One published latency, with the operators of its net as traced from the net's public definition."""

    model: Text
    input: str
    batch: Literal[1] = 1
    latency_ms: float = Field(gt=0)
    source: Text
    operators: list[OperatorRow] = Field(min_length=1)
    params_m: float | None = None
    gmacs: float | None = None
    note: str | None = None

    def cost(self, precision: str) -> Cost:
        """Kernels of one kind are taken as alike: their sum is divided by their number."""
        width = PRECISION_BYTES[precision] * 1e6
        rows = [
            OperatorCost(kind, kind, 1e6 * mflops / n, width * read / n, width * written / n)
            for kind, n, mflops, read, written in self.operators
            for _ in range(n)
        ]
        return Cost.from_operators(rows, params=round(1e6 * (self.params_m or 0)), precision=precision)


class Calibration(_Frozen):
    """Published batch-1 latencies of one runtime and one precision: kinds are never mixed."""

    runtime: Text
    precision: Precision
    statistic: Text
    points: list[Point] = Field(min_length=4)


class Device(_Frozen):
    """A device with one compute unit, runtime and precision; `latency` is what it is for."""

    name: Text
    title: Text
    unit: Text
    kind: Literal["server-gpu", "embedded-gpu", "npu", "cpu"]
    runtime: str | None = None
    """With its version where one is stated; None: no measurement, only a datasheet."""
    precision: Precision
    fuses: bool = True
    """The runtime runs element-wise operators inside their producers."""
    measurable: bool = False
    """This very machine: nets can be timed here (`measure`)."""
    spec: Spec = Field(default_factory=Spec)
    calibration: Calibration | None = None
    notes: list[str] = Field(default_factory=list)
    model: LatencyModel | None = None
    """Fitted here (`calibrate`); None in device files, whose model follows from their numbers."""

    @model_validator(mode="after")
    def _one_runtime(self) -> Self:
        c = self.calibration
        if c is not None and (c.runtime, c.precision) != (self.runtime, self.precision):
            raise ValueError("runtime and precision must be those of the calibration")
        return self

    def latency(self, cost: Cost | nn.Module, example: Tensor | Sequence[Tensor] | None = None) -> Latency:
        """Latency of a traced cost, or of a module on an example input."""
        if isinstance(cost, nn.Module):
            if example is None:
                raise UserError("the latency of a module needs an example input: device.latency(module, example)")
            cost = trace_cost(cost, example, self.precision)
        return predict(self.model or default_model(self), cost)

    def with_model(self, model: LatencyModel) -> "Device":
        return self.model_copy(update={"model": model})

    def prior(self) -> Prior:
        """What is expected of the device before its calibration."""
        if self.measurable:
            return Prior(local_rates(), spread=(0.7, 0.7, 0.7), factor=LOCAL_FACTOR)
        peak, bandwidth = self.spec.tflops.get(self.precision), self.spec.bandwidth_gb_s
        flops = 1e12 * peak.value if peak else None
        return prior_of(self.kind, flops, 1e9 * bandwidth.value if bandwidth else None)

    def to_json(self) -> str:
        return self.model_dump_json(indent=1, exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str) -> "Device":
        return _parsed(lambda: cls.model_validate_json(text), "the device's JSON")


LOCAL_FACTOR = 3.0
"""90 % interval of the local machine before calibration: its rates are measured, but on three operators only."""


def default_model(device: Device) -> LatencyModel:
    """Fitted to the file's published points; without any, the datasheet's (of the local machine: the benchmark's)."""
    prior, calibration = device.prior(), device.calibration
    if calibration is None:
        return analytic(prior, device.precision, device.fuses)
    # The rows of a point are what the runtime runs: they were fused when they were typed in.
    costs = [point.cost(device.precision) for point in calibration.points]
    latencies = [point.latency_ms for point in calibration.points]
    model = fit(costs, latencies, prior, tier="C", precision=device.precision, fuses=False)
    return replace(model, fuses=device.fuses)


def device_names() -> list[str]:
    """Names of the devices that come with the package."""
    return sorted(path.stem for path in DEVICES.glob("*.yaml"))


def load_device(name_or_path: str | PathLike[str]) -> Device:
    """A device by name (`device_names()`) or from a YAML file of the user, with its latency model."""
    text = fspath(name_or_path)
    if Path(text).suffix in (".yaml", ".yml"):
        return _load(Path(text))
    if text not in device_names():
        raise unknown("device", text, device_names())
    return _packaged(text)


@lru_cache(maxsize=64)
def _packaged(name: str) -> Device:
    return _load(DEVICES / f"{name}.yaml")


def _load(path: Path) -> Device:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the device file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"the device file {path} is no YAML: {' '.join(str(error).split())}") from error
    device = _parsed(lambda: Device.model_validate(content), f"the device file {path}")
    return device if device.model else device.with_model(default_model(device))


def _parsed(parse: Callable[[], Device], what: str) -> Device:
    """Pydantic's report in one sentence."""
    try:
        return parse()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise UserError(f"{what} is not valid: {where}: {first['msg']} ({error.error_count()} in all)") from error
