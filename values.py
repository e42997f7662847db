"""Values that all rooms share: a metric, an estimate of it, a limit on it; formatted here and nowhere else."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import UserError, nearest, quoted

Better = Literal["max", "min"]
Source = Literal["counted", "measured", "calibrated", "analytic"]
"""Where a number is from: counted exactly, timed on the device, fitted to measurements of it, or of its datasheet."""
Tier = Literal["", "A", "B", "C", "D"]
"""How far an estimate of a device is to be trusted (`hw_profiles`); empty: of a number that needs no trust."""
Style = Literal["number", "share", "count"]
COUNTS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Metric:
    """A number that a net has.

    name: as in tables and objectives, with the unit where it has one (`latency_ms`). unit: of values, empty for none.
    better: whether it is to be made large or small. style: how a value is written; a share is written in per cent.
    title: for people; empty: the name.

    >>> nas.Metric("accuracy", better="max", style="share").text(0.984)
    '98.40%'
    """

    name: str
    unit: str = ""
    better: Better = "min"
    style: Style = "number"
    title: str = ""

    @property
    def sign(self) -> int:
        """What turns a value into a loss."""
        return 1 if self.better == "min" else -1

    @property
    def label(self) -> str:
        """Name for people, with the unit: `latency ms`."""
        return " ".join(filter(None, (self.title or self.name, self.unit)))

    def column(self, end: str) -> str:
        """Name of a number that goes with the metric: `latency_low_ms`; without a unit `params_low`."""
        stem, unit = self.name.removesuffix(f"_{self.unit.lower()}"), self.unit.lower()
        return "_".join(filter(None, (stem, end, unit)))

    def text(self, value: float) -> str:
        """A value as people read it: `96.12%`, `1.23 M`, `4.5 ms`, `0.3127`."""
        if self.style == "share" and 0 <= value <= 1:
            return f"{value:.2%}"
        if self.style == "count":
            return count_text(value, self.unit)
        return f"{number_text(value)} {self.unit}" if self.unit else f"{value:.4g}"


LATENCY = Metric("latency_ms", "ms", title="latency")
P95 = Metric("latency_p95_ms", "ms", title="p95 latency")
ENERGY = Metric("energy_mj", "mJ", title="energy")
MEMORY = Metric("memory_mib", "MiB", title="memory")
SIZE = Metric("size_mib", "MiB", title="size")
PARAMS = Metric("params", style="count", title="parameters")
FLOPS = Metric("flops", style="count", title="FLOPs")
TTFT = Metric("ttft_ms", "ms", title="time to first token")
TPOT = Metric("tpot_ms", "ms", title="time per output token")
THROUGHPUT = Metric("throughput_per_s", "/s", "max", title="throughput")


@dataclass(frozen=True)
class Estimate:
    """A value of a metric in its unit, its 90 % interval, and its source; of a counted one low = value = high.

    >>> time = device.latency(net, task.example)
    >>> f"{time.low:.2g} to {time.high:.2g} ms, {time.source}, tier {time.tier}"
    '... ms, ..., tier ...'
    """

    metric: Metric
    value: float
    low: float
    high: float
    source: Source
    tier: Tier = ""

    @classmethod
    def counted(cls, metric: Metric, value: float) -> "Estimate":
        """A number that is exact."""
        return cls(metric, value, value, value, "counted")

    @property
    def text(self) -> str:
        """`4.5 ms, 4.1 to 5 (calibrated, tier B)`; of what is counted the value alone."""
        return self.metric.text(self.value) + self.spread

    @property
    def mean_ms(self) -> float:
        """Deprecated: `value`."""
        return self._renamed("mean_ms", "value")

    @property
    def low_ms(self) -> float:
        """Deprecated: `low`."""
        return self._renamed("low_ms", "low")

    @property
    def high_ms(self) -> float:
        """Deprecated: `high`."""
        return self._renamed("high_ms", "high")

    def _renamed(self, old: str, new: str) -> float:
        warnings.warn(f"{old} of an estimate is deprecated; use {new}", DeprecationWarning, stacklevel=3)
        value: float = getattr(self, new)
        return value

    @property
    def spread(self) -> str:
        """What follows the value in the text; nothing of what is counted."""
        if self.source == "counted":
            return ""
        trust = f"{self.source}, tier {self.tier}" if self.tier else self.source
        return f", {number_text(self.low)} to {number_text(self.high)} ({trust})"


@dataclass(frozen=True)
class Limit:
    """The most that a net may have of a metric, in its unit; on the device of that name, empty where none matters.

    relative: `upper` is a share of what the largest net of the space has.

    >>> nas.Limit(nas.Metric("params"), 10_000)
    Limit(...)
    """

    metric: Metric
    upper: float
    device: str = ""
    relative: bool = False

    @property
    def text(self) -> str:
        """`latency at most 5 ms on jetson-orin`."""
        most = f"{100 * self.upper:.3g}% of the largest net's" if self.relative else self.metric.text(self.upper)
        where = f" on {self.device}" if self.device else ""
        return f"{self.metric.title or self.metric.name} at most {most}{where}"


def number_text(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e9 else f"{value:.3g}"


def count_text(value: float, unit: str = "") -> str:
    """1234567 as 1.23 M."""
    for name, scale in reversed(COUNTS.items()):
        if value >= 0.9995 * scale:  # 999,700 is 1 M, as three digits round it
            return f"{value / scale:.3g} {name}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


UNITS: Mapping[str, Mapping[str, float]] = {
    "ms": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "mJ": {"mJ": 1.0, "uJ": 1e-3, "J": 1e3},
    "MiB": {
        "B": 2**-20,
        "KiB": 2**-10,
        "MiB": 1.0,
        "GiB": 1024.0,
        "KB": 1e3 / 2**20,
        "MB": 1e6 / 2**20,
        "GB": 1e9 / 2**20,
    },
    "": COUNTS,
}
"""What may be written of a metric, in terms of its unit."""
EXAMPLES = {"ms": "5ms", "mJ": "20mJ", "MiB": "50MiB", "": "2M"}
MOST = 1e18
"""Of a number that a user writes: beyond, a unit would carry it out of what a float holds."""


def parse_limit(metric: Metric, text: str, device: str = "", *, option: str = "") -> Limit:
    """`5ms`, or `60%` of what the largest net of the space has. Error: not a number and one of the units.

    option: of the command, to be named by an error.
    """
    units, example = UNITS[metric.unit], EXAMPLES[metric.unit]
    what = f"{option or metric.title} {quoted(text)}"
    match = re.fullmatch(r" *([0-9]+(?:\.[0-9]+)?|\.[0-9]+) *([A-Za-z%]*) *", text)
    by_case = {unit.lower(): unit for unit in (*units, "%")}
    if match is None or match[2].lower() not in by_case:
        given = "" if match is None else match[2]
        named = ", ".join(u or "none" for u in (nearest(given, by_case.values()) if given else by_case.values()))
        raise UserError(f"{what} is not understood; write a number and a unit ({named}), as in {example} or 60%")
    number, unit = float(match[1]), by_case[match[2].lower()]
    if not 0 < number < MOST:
        raise UserError(f"{what} must be {'more than zero' if number < 1 else f'below {MOST:g}'}, as in {example}")
    if unit == "%" and number > 100:
        raise UserError(f"{what} is more than the largest net has; write at most 100%")
    return Limit(metric, number * units.get(unit, 0.01), device, relative=unit == "%")
