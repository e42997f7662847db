"""Every profile against its own data. A finding is one sentence that says what is wrong; a sound profile has none."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import log
from os import PathLike, fspath
from pathlib import Path

from ..errors import UserError
from .catalog import device_names, read_device, read_named
from .device import Device, default_model
from .holdout import error_of, left_out
from .points import Net, Point, Rate, Validity

MACS_TOLERANCE = 0.35
"""Published MACs against the typed operators: some authors count attention or the classifier, some do not."""
FAR_OFF = 30.0
"""A point is a slip if it is so many times its prediction from the others, or so small a part of it. Of the profiles of
the package the worst is at 7."""
STATED_TOLERANCE = 1.25
"""A stated error may be exceeded by so much when it is found again from the points."""


def check_all(names: Sequence[str | PathLike[str]] = ()) -> dict[str, list[str]]:
    """Findings by name of the profile; of all that come with the package if none is named."""
    wanted = [fspath(name) for name in names] or device_names()
    results: dict[str, list[str]] = {}
    devices: dict[str, Device] = {}
    for name in wanted:
        try:
            devices[name] = _read(name)
            results[name] = check(devices[name])
        except UserError as error:
            results[name] = [str(error)]
    for name, other in _same_key(devices):
        results[name].append(f"it is of the same device, runtime, precision and modes as {other}")
    return results


def check(device: Device) -> list[str]:
    """What is wrong with one profile: points, model, and what the file states of both."""
    rules = (_names, _duplicates, _roofline, _macs, _support, _stated)
    fitted = device if device.model else device.with_model(default_model(device))
    return [*(finding for rule in rules for finding in rule(device)), *_far_off(fitted), *_interval(fitted)]


def bound_ms(device: Device, net: Net) -> float:
    """No correct time is below: all FLOPs at the peak rate, or the weights that the chip cannot hold, once.

    Activations are not counted, for a chip may keep them; 0 where the datasheet states nothing.
    """
    cost, spec = net.cost(device.precision), device.spec
    peak = spec.tflops.get(device.precision)
    compute = cost.flops / (1e9 * peak.value) if peak else 0.0
    if spec.bandwidth_gb_s is None or spec.on_chip_mb is None:
        return compute
    outside = max(0.0, cost.weight_bytes - 1e6 * spec.on_chip_mb.value)
    return max(compute, outside / (1e6 * spec.bandwidth_gb_s.value))


def _read(name: str) -> Device:
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return read_device(Path(name))
    device = read_named(name)
    if device.name != name:
        raise UserError(f"the file {name}.yaml is of device {device.name!r}: a device has the name of its file")
    return device


def _same_key(devices: dict[str, Device]) -> Iterator[tuple[str, str]]:
    seen: dict[tuple[str, ...], str] = {}
    for name, device in devices.items():
        if device.key in seen:
            yield name, seen[device.key]
        seen.setdefault(device.key, name)


def _names(device: Device) -> Iterator[str]:
    if not device.calibration and not device.measurable and not any("atasheet only" in note for note in device.notes):
        yield "it has no points, and no note says 'Datasheet only' and why"


def _duplicates(device: Device) -> Iterator[str]:
    for what, times in Counter(map(_called, device.nets)).items():
        if times > 1:
            yield f"{what} occurs {times} times: keep one, and the other values as its conflicts"


def _roofline(device: Device) -> Iterator[str]:
    for net in device.nets:
        bound = bound_ms(device, net)
        if net.period_ms < bound and net.implausible is None:
            yield (
                f"{_called(net)}: {net.period_ms:.4g} ms beats the roofline bound of {bound:.4g} ms: a slip, "
                "or state under `implausible` why the value is kept"
            )


def _far_off(device: Device) -> Iterator[str]:
    """The worst point only: it spoils the predictions of the others."""
    nets = device.calibration.fitted if device.calibration else []
    off = [(net.period_ms / time.value, net) for net, time in zip(nets, left_out(device), strict=True)]
    worst, net = max(off, key=lambda pair: abs(log(pair[0])), default=(1.0, None))
    if net is not None and not 1 / FAR_OFF < worst < FAR_OFF:
        yield (
            f"{_called(net)}: {net.period_ms:.4g} ms is {worst:.3g} times what the other points predict: a slip, "
            "perhaps of the unit, or state under `implausible` why the value is not believed"
        )


def _macs(device: Device) -> Iterator[str]:
    for net in device.nets:
        counted = net.cost(device.precision).flops / 2e9
        if net.gmacs is not None and abs(counted / net.gmacs - 1) > MACS_TOLERANCE:
            yield f"{_called(net)}: its operators are {counted:.3g} GMACs, {net.gmacs:.3g} are stated"


def _support(device: Device) -> Iterator[str]:
    refused = {kind for net in device.nets for kind in device.supports.refused(net.cost(device.precision))}
    if refused:
        yield f"its points have operators that, by its file, it does not run: {', '.join(sorted(refused))}"
    precisions = device.supports.precisions
    if precisions is not None and device.precision not in precisions:
        yield f"its precision {device.precision} is not among those that it supports: {', '.join(precisions)}"


def _stated(device: Device) -> Iterator[str]:
    """What a measured profile states of itself, against its points."""
    if device.calibration is None:
        if device.validity or device.error:
            yield "validity and error are of a calibration, and there is none"
        return
    follows = Validity.of(device.calibration)
    if device.validity is not None and not _alike(device.validity, follows):
        yield f"its validity {device.validity} is not that of its points, {follows}"
    if device.error is None:
        return
    again = error_of(device.model_copy(update={"error": None}))
    if again.tier != device.error.tier:
        yield f"it states tier {device.error.tier}; its points make it tier {again.tier}"
    for name in ("leave_one_out", "leave_family_out", "quantile_90"):
        stated, result = getattr(device.error, name), getattr(again, name)
        if stated is not None and result is not None and result > STATED_TOLERANCE * stated + 0.01:
            yield f"it states {name} {stated:.3g}; from its points it is {result:.3g}"


def _interval(device: Device) -> Iterator[str]:
    """Own points lie in the 90 % interval so seldom that chance (1 %) does not explain it."""
    from scipy.stats import binom

    nets = device.calibration.fitted if device.calibration else []
    if not nets:
        return
    times = [(net, device.of_net(net)) for net in nets]
    inside = sum(t.low <= net.period_ms <= t.high for net, t in times)
    if inside < binom.ppf(0.01, len(nets), 0.9):
        yield f"its 90 % interval holds {inside} of its own {len(nets)} points"


def _called(net: Point | Rate) -> str:
    batch = f", batch {net.batch}" if net.batch > 1 else ""
    return f"point {net.model!r} at {net.input}{batch}"


def _alike(a: Validity, b: Validity) -> bool:
    """Equal but for the rounding of a file."""
    pairs: Iterable[tuple[float, float]] = [*zip(a.gflops, b.gflops, strict=True)]
    if a.params_m and b.params_m:
        pairs = [*pairs, *zip(a.params_m, b.params_m, strict=True)]
    return a.families == b.families and all(abs(x - y) <= 1e-3 * max(abs(x), abs(y)) for x, y in pairs)
