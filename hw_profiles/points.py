"""What a device file says of nets: published or measured points, where they hold, and how far predictions are off."""

import re
from collections import Counter
from dataclasses import replace
from statistics import median
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .cost.operators import PRECISION_BYTES, Cost, Kind, OperatorCost
from .schema import Frozen, NotNegative, Positive, Text

Trust = Literal["measured", "vendor", "paper", "community"]
"""Who says so: this project's own protocol, the maker, the authors of the net or a paper, a user or a web page."""
Kernels = Annotated[int, Field(gt=0, le=10**9)]
Size = Annotated[int, Field(ge=0, le=10**12)]
Row = tuple[Kind, Kernels, NotNegative, NotNegative, NotNegative]
"""Sum over alike kernels: (kind, kernels, MFLOPs, million elements read (weights included), million elements written).
"""
NamedRow = tuple[Kind, Kernels, NotNegative, NotNegative, NotNegative, str, Size, Size]
"""The same and (name, length, channels) of `OperatorCost`, where they are known."""
FEWEST = 3
"""Points of a calibration; fewer would fit the noise."""


class Conflict(Frozen):
    """Another published value for the same net on the same device: kept, and not averaged."""

    value: Positive
    """In the unit of the point: ms, or frames per second."""
    source: Text
    note: str | None = None


class Net(Frozen):
    """What was timed, and by whom: the part that all kinds of points share."""

    model: Text
    """The published name, or an architecture's id."""
    family: str = ""
    """Nets of one family are alike; "" is the leading letters of the name."""
    input: str
    batch: int = Field(default=1, ge=1, le=10**9)
    source: Text
    trust: Trust
    statistic: str | None = None
    scope: str | None = None
    """What the time includes: the whole net, an encoder, with or without copies to the device."""
    warmup: str | None = None
    architecture: dict[str, Any] | None = None
    """The genes of a net of a search space."""
    params_m: NotNegative | None = None
    gmacs: Positive | None = None
    """As published, to check the operators by."""
    note: str | None = None
    implausible: str | None = None
    """Why the value is not believed: it is kept, and not fitted."""
    conflicts: list[Conflict] = Field(default_factory=list)
    operators: list[NamedRow | Row] = Field(min_length=1)
    """Of the whole batch, as the runtime runs them (fused where it fuses)."""

    @property
    def group(self) -> str:
        """The family, for what must hold for families that were not seen."""
        return self.family or (re.match(r"[a-z]+", self.model.lower()) or [self.model.lower()])[0]

    def cost(self, precision: str) -> Cost:
        """Kernels of one row are taken as alike: their sum is divided by their number."""
        width = PRECISION_BYTES[precision] * 1e6
        rows = [_operator(row, width) for row in self.operators]
        return Cost.from_operators(rows, params=round(1e6 * (self.params_m or 0)), precision=precision)

    @classmethod
    def of(cls, cost: Cost, **fields: Any) -> Self:
        """The point of a traced cost (fused, where the runtime fuses); identical kernels become one row."""
        rows: Counter[OperatorCost] = Counter()
        for op in cost.operators:
            rows[replace(op, count=1)] += op.count
        width = PRECISION_BYTES[cost.precision] * 1e6
        operators = [_row(replace(op, count=n), width) for op, n in rows.items()]
        params = {"params_m": cost.params / 1e6} if cost.params else {}
        return cls.model_validate({"operators": operators} | params | fields)

    @property
    def value(self) -> float:
        """The published value, in its unit."""
        raise NotImplementedError

    @property
    def spread(self) -> float | None:
        """Half the range of the value and its conflicts, as a share; None: no conflicts."""
        values = [self.value, *(conflict.value for conflict in self.conflicts)]
        return (max(values) - min(values)) / 2 / self.value if self.conflicts else None


def _operator(row: Row | NamedRow, width: float) -> OperatorCost:
    """width: bytes of a million elements."""
    kind, n, mflops, read, written = row[:5]
    name, length, channels = row[5:] if len(row) == 8 else (kind, 0, 0)
    return OperatorCost(name, kind, 1e6 * mflops / n, width * read / n, width * written / n, n, length, channels)


def _row(op: OperatorCost, width: float) -> NamedRow:
    n, read, written = op.count, op.bytes_read / width, op.bytes_written / width
    return op.kind, n, n * op.flops / 1e6, n * read, n * written, op.name, op.length, op.channels


class Point(Net):
    """One latency: of a single input, or (batch mode batch-step) of one step of a batch."""

    latency_ms: Positive
    p95_ms: Positive | None = None
    """95th percentile of single calls."""
    noise: NotNegative | None = None
    """Half-width of the median's 95 % interval, as a share of it."""
    energy_mj: Positive | None = None
    """Of one call."""
    memory_mib: Positive | None = None
    """Peak memory beyond that of the bare runtime."""
    activation_mib: NotNegative = 0.0
    """Largest sum of activations that live at once, as counted: what peak memory is predicted from."""

    def cost(self, precision: str) -> Cost:
        return replace(super().cost(precision), peak_activation_bytes=round(self.activation_mib * 2**20))

    @property
    def value(self) -> float:
        return self.latency_ms

    @property
    def period_ms(self) -> float:
        """What a latency model of the device is fitted to."""
        return self.latency_ms


class Rate(Net):
    """One throughput. 1000 / rate is no latency: a pipelined chip works on several inputs at a time."""

    throughput_per_s: Positive

    @property
    def value(self) -> float:
        return self.throughput_per_s

    @property
    def period_ms(self) -> float:
        """Time between two outputs."""
        return 1e3 * self.batch / self.throughput_per_s


class Calibration(Frozen):
    """Points of one kind: latencies (`points`) or throughputs (`rates`), never both.

    `source`, `trust`, `statistic`, `scope`, `warmup` and `family` hold for every point that does not state its own.
    """

    source: str | None = None
    trust: Trust | None = None
    statistic: str | None = None
    scope: str | None = None
    warmup: str | None = None
    family: str | None = None
    points: list[Point] = Field(default_factory=list)
    rates: list[Rate] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        common = {k: v for k, v in data.items() if k not in ("points", "rates") and v is not None}
        lists = {k: data[k] for k in ("points", "rates") if isinstance(data.get(k), list)}
        return data | {k: [common | p if isinstance(p, dict) else p for p in points] for k, points in lists.items()}

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.points) == bool(self.rates):
            raise ValueError("state either points (latencies) or rates (throughputs): kinds are never mixed")
        if len(self.fitted) < FEWEST:
            raise ValueError(f"a calibration has {FEWEST} points or more that are believed; with fewer, leave it out")
        return self

    @property
    def nets(self) -> list[Point] | list[Rate]:
        return self.points or self.rates

    @property
    def fitted(self) -> list[Point | Rate]:
        """The points that are believed."""
        return [net for net in self.nets if net.implausible is None]

    @property
    def noise(self) -> float | None:
        """Median of the repeat noise of the points; one with conflicts counts their spread. None: nothing is known."""
        own = [net.noise if isinstance(net, Point) and net.noise is not None else net.spread for net in self.fitted]
        stated = [noise for noise in own if noise is not None]
        return median(stated) if stated else None

    @property
    def tier(self) -> Literal["A", "B", "C"]:
        """A: 100 nets or more measured by this project's protocol; B: 5 to 99; C: published by others, or fewer."""
        measured = sum(net.trust == "measured" for net in self.fitted)
        if measured < len(self.fitted) or measured < 5:
            return "C"
        return "A" if measured >= 100 else "B"


ROUNDING = 1.001


class Validity(Frozen):
    """The families and ranges of the nets that a model was fitted to; outside, its tier drops by one."""

    families: list[str]
    gflops: tuple[NotNegative, NotNegative]
    """FLOPs are 2 x multiply-adds, of the whole batch."""
    params_m: tuple[NotNegative, NotNegative] | None = None

    @classmethod
    def of(cls, calibration: Calibration) -> Self:
        nets = calibration.fitted
        gflops = [net.cost("fp32").flops / 1e9 for net in nets]
        params = [net.params_m for net in nets if net.params_m]
        stated = (min(params), max(params)) if len(params) == len(nets) else None
        return cls(families=sorted({net.group for net in nets}), gflops=(min(gflops), max(gflops)), params_m=stated)

    def holds(self, cost: Cost) -> bool:
        """Rounding in a file (four digits) does not put a net outside its own range."""
        inside = self.gflops[0] / ROUNDING <= cost.flops / 1e9 <= self.gflops[1] * ROUNDING
        if self.params_m is None or not cost.params:
            return inside
        return inside and self.params_m[0] / ROUNDING <= cost.params / 1e6 <= self.params_m[1] * ROUNDING


class Error(Frozen):
    """How far predictions are off, for nets that the model had not seen. Shares: 0.1 is 10 %."""

    tier: Literal["A", "B", "C", "D"]
    leave_one_out: NotNegative | None = None
    """Mean absolute error of each point, predicted from the others (above 30 points: in ten parts); None: no points."""
    leave_family_out: NotNegative | None = None
    """The same, predicted from the other families; None: there is one family only."""
    rank: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Kendall tau of points left out, over pairs that measurements tell apart; None: too few of them."""
    quantile_90: Positive
    """90 % quantile of true over predicted: a budget multiplied by its inverse is kept nine times out of ten."""
    noise: NotNegative | None = None
    """Median of the points' repeat noise, or half the spread of conflicting values; None: not stated."""
