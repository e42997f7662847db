"""Devices: files that say what is known of a device and from whom, and the latency that follows.

A device is one YAML file: a datasheet (`spec`, each value with its source) and, where there are any, published or
measured points (`calibration`). Drop a file into `devices/`, or give a path: nothing else is needed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ..errors import UserError
from ..values import THROUGHPUT, Estimate
from .cost import Cost, fused
from .models.latency import LatencyModel, analytic, below, fit, predict
from .models.priors import Prior, prior_of
from .models.quantity import FEWEST, drawn, energy_of, fit_energy, fit_memory, memory_of
from .models.rank import LEAST
from .models.tail import FEWEST as FEWEST_TAILS
from .models.tail import Tail, fit_tail, p95_of
from .points import Calibration, Error, Point, Rate, Validity
from .runtimes import runtime_names
from .schema import Frozen, Name, Precision, Runtime, Spec, Supports, Text, Value, first_error

if TYPE_CHECKING:
    from torch import nn

    from ..search_space.inputs import Inputs

    Example = Inputs | None
    Net = Cost | nn.Module

__all__ = (
    "Calibration", "Device", "Point", "Rate", "Runtime", "Spec", "Supports", "Validity", "Value", "default_model"
)  # fmt: skip

BatchMode = Literal["latency", "batch-step", "throughput"]
"""What a number is the time of: one input at a time; a step of a large batch; the output rate of a pipelined chip."""
LOCAL_FACTOR = 3.0
"""90 % interval of the local machine before calibration: its rates are measured, but on three operators only."""


class Device(Frozen):
    """One compute unit of a device in one power mode, with one runtime, precision and batch mode: the key of a profile.

    `latency` is what it is for. A change of runtime or precision costs more than a change of device: another file.

    >>> time = nas.load_device("raspberry-pi-5").latency(net, task.example)
    >>> time.low <= time.value <= time.high
    True
    """

    name: Name
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
    threads: int | None = Field(default=None, ge=1, le=4096)
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
    energy_model: LatencyModel | None = None
    """Of millijoules; None: no energies were measured."""
    memory_model: LatencyModel | None = None
    """Of MiB, over `quantity.memory_cost`; None: no peak memory was measured."""
    p95_model: Tail | None = None
    """Of the 95th percentile of single calls over the latency; None: no points state it."""

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

    def latency(self, cost: "Net", example: "Example" = None) -> Estimate:
        """Latency of a traced cost, or of a module on an example input; beyond `validity` a tier lower.

        Errors: an operator that the device cannot run; a device that is profiled by throughput only; a profile that
        does not order nets.
        """
        if self.batch_mode == "throughput":
            raise UserError(
                f"{self.name} is profiled by throughput only, and 1000 / throughput is not the latency of a pipeline; "
                "use device.throughput(), or measure latencies with `nas profile`"
            )
        return self._period(self._traced(cost, example))

    def throughput(self, cost: "Net", example: "Example" = None) -> Estimate:
        """Outputs per second, of a device that is profiled by throughput."""
        if self.batch_mode != "throughput":
            raise UserError(f"{self.name} is profiled by {self.batch_mode}, not by throughput; use device.latency()")
        time = self._period(self._traced(cost, example))
        return Estimate(THROUGHPUT, 1e3 / time.value, 1e3 / time.high, 1e3 / time.low, time.source, time.tier)

    def p95(self, cost: "Net", example: "Example" = None, *, time: Estimate | None = None) -> Estimate:
        """The 95th percentile of single calls: `value` is its expected value, the others its 90 % interval.

        time: the latency, if there is a better estimate than `latency`. Errors: those of `latency`; no percentiles
        were measured.
        """
        if self.p95_model is None:
            raise UserError(
                f"the 95th percentile of {self.name} is unknown: state `p95_ms` of {FEWEST_TAILS} of its points or "
                "more, or measure it with `nas profile`"
            )
        latency = time or self.latency(cost, example)
        return p95_of(self.p95_model, latency, self.model or default_model(self))

    def energy(self, cost: "Net", example: "Example" = None, *, time: Estimate | None = None) -> Estimate:
        """Energy of one call: from measured energies, else from the latency and the rated power.

        time: the latency, if there is a better estimate than `latency`. Errors: those of `latency`; the profile states
        neither energies nor the power.
        """
        traced = self._traced(cost, example)
        if self.energy_model is not None:
            self._check_order(self.energy_model, "energies")
            return energy_of(self.energy_model, self.as_run(traced))
        if self.spec.power_w is None:
            raise UserError(
                f"the power of {self.name} is unknown: state `power_w` in its `spec`, or `energy_mj` of its points"
            )
        return drawn(time or self.latency(traced), self.spec.power_w.value)

    def memory(self, cost: "Net", example: "Example" = None) -> Estimate:
        """Peak memory beyond the bare runtime; where none was measured, from what is counted, within a factor 3."""
        if self.memory_model is not None:
            self._check_order(self.memory_model, "memory peaks")
        return memory_of(self.memory_model, self.as_run(self._traced(cost, example)), self.precision)

    def of_net(self, net: Point | Rate) -> Estimate:
        """What is predicted for a point of a calibration: latency, or the time between two outputs."""
        # The rows of a point are what the runtime runs: they were fused when they were typed in.
        return predict(self.model or default_model(self), self.scaled(net.cost(self.precision)))

    def with_model(self, model: LatencyModel) -> "Device":
        return self.model_copy(update={"model": model})

    def fitted(self) -> "Device":
        """With models of all that its points say, but those that it has already."""
        modelled = self.with_model(self.model or default_model(self))
        return modelled.model_copy(update=_other_models(modelled))

    @property
    def prior_factor(self) -> float:
        """The 90 % interval before calibration, as a factor."""
        return LOCAL_FACTOR if self.measurable else self.prior().factor

    def prior(self) -> Prior:
        """What is expected of the device before its calibration."""
        if self.measurable:
            from .benchmark import local_rates

            return Prior(local_rates(), (0.7, 0.7, 1.5), LOCAL_FACTOR, kind_spread=(0.4, 0.5, 0.6))
        peak, bandwidth = self.spec.tflops.get(self.precision), self.spec.bandwidth_gb_s
        flops = 1e12 * peak.value if peak else None
        return prior_of(self.kind, flops, 1e9 * bandwidth.value if bandwidth else None, self.fuses)

    def to_json(self) -> str:
        return self.model_dump_json(indent=1, exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str) -> "Device":
        return parsed(lambda: cls.model_validate_json(text), "the device's JSON")

    def as_run(self, cost: Cost) -> Cost:
        """The cost as the runtime runs it: fused in its way, fallbacks at their cost. Models are fitted to this."""
        return self.scaled(fused(cost, self.runtime.name) if self.fuses else cost)

    def scaled(self, cost: Cost) -> Cost:
        """The cost with its fallbacks at their cost, and products of another precision at their rate."""
        factors = {kind: fallback.cost_factor for kind, fallback in self.supports.fallbacks.items()}
        speed = {p: self.spec.speed(p, self.precision) for p in {op.precision for op in cost.operators}}
        if not factors and speed.keys() <= {""}:
            return cost
        operators = [
            replace(op, flops=f * op.flops / s, bytes_read=f * op.bytes_read, bytes_written=f * op.bytes_written)
            for op in cost.operators
            for f, s in [(factors.get(op.kind, 1.0), speed[op.precision])]
        ]
        return replace(cost, operators=tuple(operators))

    def _traced(self, cost: "Net", example: "Example") -> Cost:
        if isinstance(cost, Cost):
            return cost
        if example is None:
            raise UserError("the latency of a module needs an example input: device.latency(module, example)")
        from .cost import trace_cost

        return trace_cost(cost, example, self.precision)

    def _check_order(self, model: LatencyModel, what: str) -> None:
        """Error: the model does not order nets that were left out of its fit."""
        if model.rank is not None and model.rank < LEAST:
            raise UserError(
                f"{what} of {self.name} are not predicted: its profile orders nets that were left out of the fit with "
                f"a Kendall tau of {model.rank:.2f}, and below {LEAST} a search would follow noise; time more nets, "
                "and such as differ more, with `nas profile --nets`"
            )

    def _period(self, cost: Cost) -> Estimate:
        refused = self.supports.refused(cost)
        if refused:
            known = ", ".join(self.supports.operators or ())
            raise UserError(f"{self.name} does not run operators of kind {', '.join(refused)}; it runs {known}")
        lacking = {p for op in cost.operators if (p := op.precision) and not self.supports.has(p, self.spec)}
        if lacking:
            known = ", ".join(self.supports.precisions or self.spec.tflops or [self.precision])
            raise UserError(f"{self.name} has no {min(lacking)}, which this net's policy needs; it runs {known}")
        model = self.model or default_model(self)
        self._check_order(model, "latencies")
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
    costs = [device.scaled(net.cost(device.precision)) for net in calibration.fitted]
    periods = [net.period_ms for net in calibration.fitted]
    groups = [net.group for net in calibration.fitted]
    tier, noise = calibration.tier, calibration.noise or 0.0
    return fit(costs, periods, prior, tier=tier, precision=device.precision, groups=groups, noise=noise)


def _other_models(device: Device) -> dict[str, LatencyModel | Tail]:
    """Models of energy, of peak memory and of the 95th percentile, where enough points state them."""
    points = device.calibration.fitted if device.calibration else []
    measured = [p for p in points if isinstance(p, Point)]
    tier, precision = device.calibration.tier if device.calibration else "D", device.precision
    models: dict[str, LatencyModel | Tail] = {}
    energies = [(device.scaled(p.cost(precision)), p.energy_mj) for p in measured if p.energy_mj is not None]
    if len(energies) >= FEWEST and device.energy_model is None:
        watts = device.spec.power_w.value if device.spec.power_w else None
        costs, values = zip(*energies, strict=True)
        models["energy_model"] = fit_energy(costs, values, device.prior(), watts, tier, precision)
    peaks = [(p.cost(precision), p.memory_mib) for p in measured if p.memory_mib is not None]
    if len(peaks) >= FEWEST and device.memory_model is None:
        costs, values = zip(*peaks, strict=True)
        models["memory_model"] = fit_memory(costs, values, tier, precision)
    tails = [(device.scaled(p.cost(precision)), (p.latency_ms, p.p95_ms)) for p in measured if p.p95_ms is not None]
    if len(tails) >= FEWEST_TAILS and device.p95_model is None and device.model is not None:
        noise = device.calibration.noise if device.calibration else None
        costs, times = zip(*tails, strict=True)
        models["p95_model"] = fit_tail(costs, times, device.model, device.prior(), noise or 0.0)
    return models


def parsed(parse: Callable[[], Device], what: str) -> Device:
    """Pydantic's report in one sentence."""
    try:
        return parse()
    except ValidationError as error:
        raise UserError(f"{what} is not valid: {first_error(error)}") from error
