"""Devices: files that say what is known of a device and from whom, and the latency that follows.

A device is one YAML file: a datasheet (`spec`, each value with its source) and, where there are any, published or
measured points (`calibration`). Drop a file into `devices/`, or give a path: nothing else is needed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from ..errors import UserError, unknown
from .benchmark import local_rates
from .cost import Cost, fused, trace_cost
from .models.latency import Latency, LatencyModel, Source, Tier, analytic, below, fit, predict
from .models.priors import Prior, prior_of
from .models.rank import LEAST
from .points import Calibration, Error, Point, Rate, Validity
from .runtimes import runtime_names
from .schema import Frozen, Precision, Runtime, Spec, Supports, Text, Value

__all__ = [
    "DEVICES",
    "Calibration",
    "Device",
    "Point",
    "Rate",
    "Runtime",
    "Spec",
    "Supports",
    "Throughput",
    "Validity",
    "Value",
    "default_model",
    "device_names",
    "json_schema",
    "load_device",
]

DEVICES = Path(__file__).parent / "devices"
BatchMode = Literal["latency", "batch-step", "throughput"]
"""What a number is the time of: one input at a time; a step of a large batch; the output rate of a pipelined chip."""
LOCAL_FACTOR = 3.0
"""90 % interval of the local machine before calibration: its rates are measured, but on three operators only."""


@dataclass(frozen=True)
class Throughput:
    """Outputs per second of a pipelined chip, and the 90 % interval."""

    mean_per_s: float
    low_per_s: float
    high_per_s: float
    source: Source
    tier: Tier


class Device(Frozen):
    """One compute unit of a device in one power mode, with one runtime, precision and batch mode: the key of a profile.

    `latency` is what it is for. A change of runtime or precision costs more than a change of device: another file.
    """

    name: Text
    title: Text
    sku: Text | None = None
    """The exact product or module; None: not stated by the authors of the points."""
    unit: Text
    power_mode: Text | None = None
    kind: Literal["server-gpu", "embedded-gpu", "npu", "cpu"]
    runtime: Runtime
    precision: Precision
    batch_mode: BatchMode = "latency"
    fuses: bool = True
    """The runtime runs element-wise operators inside their producers."""
    measurable: bool = False
    """This very machine: nets can be timed here (`measure`)."""
    threads: int | None = Field(default=None, ge=1)
    """Of a CPU that is measured here; None: as many as PyTorch takes."""
    spec: Spec = Field(default_factory=Spec)
    supports: Supports = Field(default_factory=Supports)
    calibration: Calibration | None = None
    """None: datasheet only."""
    validity: Validity | None = None
    """Where the calibration holds; follows from its points where the file does not state it."""
    error: Error | None = None
    """Of a profile that was measured; of others `check.error_of` finds it from the points."""
    notes: list[str] = Field(default_factory=list)
    model: LatencyModel | None = None
    """Fitted to measurements (`with_model`); None in device files, whose model follows from their numbers."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.calibration is not None and bool(self.calibration.rates) != (self.batch_mode == "throughput"):
            raise ValueError("batch mode throughput needs rates, the others need points: kinds are never mixed")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """What a profile is of; two profiles never share it."""
        mode, runtime = self.power_mode or "", str(self.runtime)
        return (self.title, self.sku or "", self.unit, mode, runtime, self.precision, self.batch_mode)

    @property
    def local_runtime(self) -> str:
        """The name under `runtimes` of what runs nets here."""
        return self.runtime.name if self.runtime.name in runtime_names() else "torch"

    @property
    def nets(self) -> list[Point] | list[Rate]:
        """The points of the calibration, those that are not believed included."""
        return self.calibration.nets if self.calibration else []

    def latency(self, cost: Cost | nn.Module, example: Tensor | Sequence[Tensor] | None = None) -> Latency:
        """Latency of a traced cost, or of a module on an example input; beyond `validity` a tier lower.

        Errors: an operator that the device cannot run; a device of which only throughput is known; a profile that does
        not even order nets.
        """
        if self.batch_mode == "throughput":
            raise UserError(
                f"{self.name} is profiled by throughput only, and 1000 / throughput is no latency on a pipelined chip; "
                "use device.throughput(), or measure latencies with `nas profile`"
            )
        return self._period(self._traced(cost, example))

    def throughput(self, cost: Cost | nn.Module, example: Tensor | Sequence[Tensor] | None = None) -> Throughput:
        """Outputs per second, of a device that is profiled by throughput."""
        if self.batch_mode != "throughput":
            raise UserError(f"{self.name} is profiled by {self.batch_mode}, not by throughput; use device.latency()")
        time = self._period(self._traced(cost, example))
        return Throughput(1e3 / time.mean_ms, 1e3 / time.high_ms, 1e3 / time.low_ms, time.source, time.tier)

    def of_net(self, net: Point | Rate) -> Latency:
        """What is predicted for a point of a calibration: latency, or the time between two outputs."""
        # The rows of a point are what the runtime runs: they were fused when they were typed in.
        return predict(self.model or default_model(self), self.priced(net.cost(self.precision)))

    def with_model(self, model: LatencyModel) -> "Device":
        return self.model_copy(update={"model": model})

    def prior(self) -> Prior:
        """What is expected of the device before its calibration."""
        if self.measurable:
            return Prior(local_rates(), (0.7, 0.7, 1.5), LOCAL_FACTOR, kind_spread=(0.4, 0.5, 0.6))
        peak, bandwidth = self.spec.tflops.get(self.precision), self.spec.bandwidth_gb_s
        flops = 1e12 * peak.value if peak else None
        return prior_of(self.kind, flops, 1e9 * bandwidth.value if bandwidth else None, self.fuses)

    def to_json(self) -> str:
        return self.model_dump_json(indent=1, exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str) -> "Device":
        return _parsed(lambda: cls.model_validate_json(text), "the device's JSON")

    def as_run(self, cost: Cost) -> Cost:
        """The cost as the runtime runs it: fused in its way, fallbacks at their price. Models are fitted to this."""
        return self.priced(fused(cost, self.runtime.name) if self.fuses else cost)

    def priced(self, cost: Cost) -> Cost:
        """The cost with its fallbacks at their price."""
        factors = {kind: fallback.cost_factor for kind, fallback in self.supports.fallbacks.items()}
        if not factors:
            return cost
        scaled = [
            replace(op, flops=f * op.flops, bytes_read=f * op.bytes_read, bytes_written=f * op.bytes_written)
            for op in cost.operators
            for f in [factors.get(op.kind, 1.0)]
        ]
        return replace(cost, operators=tuple(scaled))

    def _traced(self, cost: Cost | nn.Module, example: Tensor | Sequence[Tensor] | None) -> Cost:
        if not isinstance(cost, nn.Module):
            return cost
        if example is None:
            raise UserError("the latency of a module needs an example input: device.latency(module, example)")
        return trace_cost(cost, example, self.precision)

    def _period(self, cost: Cost) -> Latency:
        refused = self.supports.refused(cost)
        if refused:
            known = ", ".join(self.supports.operators or ())
            raise UserError(f"{self.name} does not run operators of kind {', '.join(refused)}; it runs {known}")
        model = self.model or default_model(self)
        if model.rank is not None and model.rank < LEAST:
            raise UserError(
                f"{self.name} is not predicted: its profile orders nets that were left out of the fit with a Kendall "
                f"tau of {model.rank:.2f}, and below {LEAST} a search would follow noise; time more nets, and such as "
                "differ more, with `nas profile --nets`"
            )
        time = predict(model, self.as_run(cost))
        outside = self.validity is not None and not self.validity.holds(cost)
        return replace(time, tier=below(model.tier)) if outside else time


def default_model(device: Device) -> LatencyModel:
    """Fitted to the file's points; without any, the datasheet's (of the local machine: the benchmark's).

    It does not fuse: the points are fused already, and of other costs the device does it (`as_run`).
    """
    prior, calibration = device.prior(), device.calibration
    if calibration is None:
        return analytic(prior, device.precision)
    costs = [device.priced(net.cost(device.precision)) for net in calibration.fitted]
    periods = [net.period_ms for net in calibration.fitted]
    groups = [net.group for net in calibration.fitted]
    tier, noise = calibration.tier, calibration.noise or 0.0
    return fit(costs, periods, prior, tier=tier, precision=device.precision, groups=groups, noise=noise)


def json_schema() -> str:
    """The JSON schema of a device file; `docs/device.schema.json` is this text."""
    schema = Device.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=1) + "\n"


def device_names() -> list[str]:
    """Names of the devices that come with the package."""
    return sorted(path.stem for path in DEVICES.glob("*.yaml"))


def load_device(name_or_path: str | PathLike[str]) -> Device:
    """A device by name (`device_names()`) or from a user's file (.yaml, .yml, .json), with its latency model."""
    text = fspath(name_or_path)
    if Path(text).suffix in (".yaml", ".yml", ".json"):
        return _load(Path(text))
    if text not in device_names():
        raise unknown("device", text, device_names())
    return _packaged(text)


@lru_cache(maxsize=64)
def _packaged(name: str) -> Device:
    return _load(DEVICES / f"{name}.yaml")


def _load(path: Path) -> Device:
    device = read_device(path)
    return device if device.model else device.with_model(default_model(device))


def read_device(path: Path) -> Device:
    """The device of a file as it stands there: nothing is fitted yet."""
    try:
        # JSON is YAML. `safe_load` with the parser in C, which is ten times faster; pyyaml's wheels have it.
        content = yaml.CSafeLoader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise UserError(f"the device file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"the device file {path} is no YAML: {' '.join(str(error).split())}") from error
    device = _parsed(lambda: Device.model_validate(content), f"the device file {path}")
    if device.calibration is None or device.validity is not None:
        return device
    return device.model_copy(update={"validity": Validity.of(device.calibration)})


def _parsed(parse: Callable[[], Device], what: str) -> Device:
    """Pydantic's report in one sentence."""
    try:
        return parse()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise UserError(f"{what} is not valid: {where}: {first['msg']} ({error.error_count()} in all)") from error
