"""What a profile says, as text: the same words for the terminal and for the page."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..values import Estimate
from .device import Device
from .holdout import left_out
from .points import Conflict, Error, Net, Point, Rate
from .schema import Value

TIERS = {
    "A": "100 nets or more measured on this device by this project's protocol",
    "B": "5 to 99 nets measured on this device by this project's protocol",
    "C": "published points",
    "D": "datasheet only: it ranks nets and bounds them by a factor, and promises no milliseconds",
}
WITHOUT_VNNI = "saturate at 16 bits: files hold unsigned weights"
MEASURE = "measure your own: nas profile"


@dataclass(frozen=True)
class Compared:
    """A point beside what is predicted for it from the others; in ms, or per second where that was published."""

    net: Net
    published: float
    predicted: float
    low: float
    high: float


def key_rows(device: Device) -> list[tuple[str, str]]:
    """(label, text) of what the profile is of."""
    modes = {"latency": "one input at a time", "batch-step": "steps of large batches", "throughput": "throughput only"}
    stated = "not stated"
    return [
        ("device", device.title),
        ("SKU", device.sku or stated),
        ("compute unit", device.unit),
        ("power mode", device.power_mode or stated),
        ("runtime", device.runtime.name),
        ("version", device.runtime.version),
        ("precision", device.precision),
        ("times are of", modes[device.batch_mode]),
    ]


def value_text(value: Value) -> str:
    """A number of the datasheet with its kind and source."""
    dated = f", {value.date}" if value.date else ""
    note = f" ({value.note})" if value.note else ""
    return f"{value.kind}: {value.source}{dated}{note}"


def support_rows(device: Device) -> list[tuple[str, str]]:
    """(label, text) of what the device is known to run; what is unknown is left out."""
    supports = device.supports
    fallbacks = [f"{kind} on {f.unit}, {f.cost_factor:g} x ({f.source})" for kind, f in supports.fallbacks.items()]
    rows = [
        ("operators", ", ".join(supports.operators or ())),
        ("fallbacks", "; ".join(fallbacks)),
        ("precisions", ", ".join(supports.precisions or ())),
        (
            "shapes",
            {None: "", True: "static: every input shape is compiled apart", False: "dynamic"}[supports.static_shapes],
        ),
        ("sums of 8-bit products", {None: "", True: "exact", False: WITHOUT_VNNI}[supports.exact_sums]),
        ("source", supports.source),
    ]
    return [(label, text) for label, text in rows if text]


def calibration_rows(device: Device) -> list[tuple[str, str]]:
    """(label, text) of the points and of where they hold."""
    calibration, validity = device.calibration, device.validity
    if calibration is None or validity is None:
        return [("points", "none")]
    flagged = len(calibration.nets) - len(calibration.fitted)
    rows = [
        (
            "points",
            f"{len(calibration.nets)}" + (f", {flagged} of them not believed and not fitted" if flagged else ""),
        ),
        ("trust", _counted(net.trust for net in calibration.nets)),
        ("statistic", _counted(net.statistic or "not stated" for net in calibration.nets)),
        ("scope", _counted(net.scope or "not stated" for net in calibration.nets)),
        ("sources", _counted(net.source.split(" row ")[0] for net in calibration.nets)),
        ("families", _counted(net.group for net in calibration.fitted)),
        ("FLOPs", f"{_short(validity.gflops[0])} to {_short(validity.gflops[1])} G (2 x multiply-adds)"),
    ]
    if validity.params_m:
        rows.append(("parameters", f"{_short(validity.params_m[0])} to {_short(validity.params_m[1])} M"))
    conflicts = sum(len(net.conflicts) for net in calibration.nets)
    return [*rows, ("conflicts", f"{conflicts} other published values, kept beside the points")] if conflicts else rows


def error_rows(device: Device, error: Error) -> list[tuple[str, str]]:
    """(label, text) of how far predictions are off."""
    rows = [
        ("tier", f"{error.tier}: {TIERS[error.tier]}"),
        ("a net left out", _percent(error.leave_one_out, "mean absolute error")),
        ("a family left out", _percent(error.leave_family_out, "mean absolute error")),
        ("order of nets left out", "" if error.rank is None else f"Kendall tau {error.rank:.2f}"),
        ("9 of 10 times", f"true is at most {error.quantile_90:.3g} x the prediction"),
        ("repeat noise", _percent(error.noise, "of repeats, or of values that disagree") or "not stated"),
    ]
    better = [] if device.measurable or error.tier in "AB" else [("to do better", MEASURE)]
    return [(label, text) for label, text in [*rows, *better] if text]


def conflict_rows(device: Device) -> list[tuple[str, str]]:
    """(net, text) of published values that disagree."""
    return [
        (f"{net.model}, {net.input}", f"{conflict.value:g}, against {net.value:g}: {_cited(conflict)}")
        for net in device.nets
        for conflict in net.conflicts
    ]


def compare(device: Device) -> list[Compared]:
    """Each fitted point beside its prediction from the others, the fastest first."""
    nets = device.calibration.fitted if device.calibration else []
    return sorted((_compared(*pair) for pair in zip(nets, left_out(device), strict=True)), key=lambda c: c.published)


def _compared(net: Point | Rate, time: Estimate) -> Compared:
    if isinstance(net, Point):
        return Compared(net, net.latency_ms, time.value, time.low, time.high)
    rate = 1e3 * net.batch
    return Compared(net, net.throughput_per_s, rate / time.value, rate / time.high, rate / time.low)


def _counted(words: Iterable[str]) -> str:
    """Each word once, the commonest first, with its number where they differ."""
    counts = Counter(words).most_common()
    alike = len({n for _, n in counts}) == 1
    return ", ".join(word if alike else f"{word} ({n})" for word, n in counts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _percent(share: float | None, what: str) -> str:
    return "" if share is None else f"{100 * share:.3g} % {what}"


def _cited(conflict: Conflict) -> str:
    return f"{conflict.source} ({conflict.note})" if conflict.note else conflict.source
