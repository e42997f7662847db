"""What a net costs, as one table: how each number is found, and in which unit users read and write it.

All else follows from it: objectives and limits of a search, options of the command, columns and facts of the reports.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import unknown
from ..search_space.architecture import Architecture
from ..values import FLOPS, MEMORY, PARAMS, SIZE, Estimate
from .candidates import Candidates
from .units import COUNTS, MEBIBYTES, MILLIJOULES, MILLISECONDS, for_each, human, parse_number

COUNTED = "counted"


@dataclass(frozen=True)
class Price:
    """One thing that a net costs. of: how `Candidates` gives it; its errors are those of the device.

    units: what a user may write, in terms of `unit`; an empty unit is a count. local: it depends on the device.
    predicted: it may have an interval, whose upper end is what a limit bounds. measured: it is checked on a machine at
    hand before the answer, so that there the mean is bounded, as for a budget. option: of `nas search`, for a limit.
    """

    name: str
    title: str
    unit: str
    units: Mapping[str, float]
    example: str
    of: Callable[[Candidates, Architecture], Estimate]
    local: bool = True
    predicted: bool = False
    measured: bool = False
    option: str = ""

    def parse(self, text: str) -> float:
        """What a user wrote as a limit. Error: not a number and one of the units."""
        return parse_number(text, self.option or self.name, self.units, self.example)

    def text(self, value: float) -> str:
        """`1.2 M`, `3.4 mJ`."""
        return f"{value:.3g} {self.unit}" if self.unit else human(value)

    def head(self, column: str) -> str:
        """Of a column, with the unit: `energy mJ on t4`."""
        return " ".join(filter(None, (self.title, self.unit))) + column.removeprefix(self.name)

    def told(self, amount: Estimate) -> str:
        """With the interval and where it is from, where it is not exact."""
        if amount.source == COUNTED:
            return self.text(amount.value)
        found = f"{amount.low:.3g} to {amount.high:.3g} ({amount.source}, tier {amount.tier})"
        return f"{self.text(amount.value)}, {found}"

    def column(self, end: str) -> str:
        """`energy_low_mj`: the name of a number beside it; of a count `params_low`."""
        stem = self.name.removesuffix(f"_{self.unit.lower()}")
        return f"{stem}_{end}_{self.unit.lower()}".rstrip("_")

    def end(self, candidates: Candidates) -> str:
        """The unit, and which end of the interval a limit bounds, in words."""
        mean = self.measured and candidates.device.measurable
        end = f" at the {'mean' if mean else 'upper end'}" if self.predicted else ""
        return f" {self.unit}".rstrip() + end

    def bounded(self, candidates: Candidates) -> Callable[[Architecture], float]:
        """The number that a limit bounds."""
        mean = self.measured and candidates.device.measurable
        return lambda net: self.of(candidates, net).value if mean else self.of(candidates, net).high


@dataclass(frozen=True)
class Charge:
    """What a net costs on a device, and the most that was allowed; device: empty for the first one."""

    price: Price
    amount: Estimate
    allowed: float | None = None
    device: str = ""

    def of(self, what: str) -> str:
        """`energy on t4`."""
        return f"{what} on {self.device}" if self.device else what

    @property
    def text(self) -> str:
        allowed = "" if self.allowed is None else f", allowed {self.price.text(self.allowed)}"
        return self.price.told(self.amount) + allowed


def _peak(candidates: Candidates, net: Architecture) -> Estimate:
    """What the profile predicts, if it measured any; else weights and activations."""
    cost, device = candidates.cost(net), candidates.device
    return Estimate.counted(MEMORY, cost.memory_bytes / 2**20) if device.memory_model is None else device.memory(cost)


TABLE = (
    Price("latency_ms", "latency", "ms", MILLISECONDS, "5ms",
          lambda c, net: c.latency(net), predicted=True, measured=True),
    Price("latency_p95_ms", "p95 latency", "ms", MILLISECONDS, "8ms",
          lambda c, net: c.p95(net), predicted=True, measured=True, option="--max-p95"),
    Price("energy_mj", "energy", "mJ", MILLIJOULES, "20mJ",
          lambda c, net: c.energy(net), predicted=True, option="--max-energy"),
    Price("memory_mib", "memory", "MiB", MEBIBYTES, "50MiB", _peak, predicted=True, option="--max-memory"),
    Price("size_mib", "size", "MiB", MEBIBYTES, "4MiB",
          lambda c, net: Estimate.counted(SIZE, c.weight_bytes(net) / 2**20), option="--max-size"),
    Price("params", "parameters", "", COUNTS, "2M",
          lambda c, net: Estimate.counted(PARAMS, c.cost(net).params), local=False, option="--max-params"),
    Price("flops", "FLOPs", "", COUNTS, "1G",
          lambda c, net: Estimate.counted(FLOPS, c.cost(net).flops), local=False, option="--max-flops"),
)  # fmt: skip
PRICES: Mapping[str, Price] = {price.name: price for price in TABLE}
ALWAYS = ("params", "flops", "memory_mib", "size_mib")
"""What is shown of every net, asked for or not: no device is too little known for it."""


def price_of(name: str) -> Price:
    """Error: no such cost, with the nearest names."""
    if name not in PRICES:
        raise unknown("objective", name, PRICES)
    return PRICES[name]


def price_in(column: str) -> Price | None:
    """What a column of a table or an objective is of (`energy_mj`, `energy_mj on t4`); None: of no cost."""
    return PRICES.get(column.partition(" on ")[0])


def check_known(candidates: Candidates, names: Iterable[str]) -> None:
    """Errors: of the device, where it does not know one of these costs."""
    for name in names:
        price_of(name).of(candidates, candidates.supernet.space.smallest)


def for_each_target(targets: Sequence[str], written: Mapping[str, Any]) -> list[dict[str, float]]:
    """Limits for each target, by the name of the cost. written: of the command, by parameter: `max_energy`.

    Errors: as of `Price.parse` and `for_each`.
    """
    found: list[dict[str, float]] = [{} for _ in targets]
    for price in (p for p in TABLE if p.option):
        texts = written[price.option.removeprefix("--").replace("-", "_")] or []
        for limits, most in zip(found, for_each(targets, texts, price.parse, price.option), strict=True):
            if most is not None:
                limits[price.name] = most
    return found
