"""What a net costs, as one table: how `Candidates` estimates each metric, and the option of `nas search` to limit it.

All else follows from it: objectives and limits of a search, columns and facts of the reports.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import unknown
from ..values import ENERGY, FLOPS, LATENCY, MEMORY, P95, PARAMS, SIZE, TPOT, TTFT, Estimate, Metric

if TYPE_CHECKING:
    from ..search_space.architecture import Architecture
    from .candidates import Candidates


@dataclass(frozen=True)
class CostMetric:
    """One thing that a net costs. estimate: its errors are those of the device.

    option: of `nas search`, for a limit. per_device: it differs between devices. measured: on a machine at hand it is
    measured before the answer.
    """

    metric: Metric
    estimate: Callable[["Candidates", "Architecture"], Estimate]
    option: str
    per_device: bool = True
    measured: bool = False


def _peak(candidates: "Candidates", net: "Architecture") -> Estimate:
    """What the profile predicts, if it measured any; else weights and activations."""
    cost, device = candidates.cost(net), candidates.device
    return Estimate.counted(MEMORY, cost.memory_bytes / 2**20) if device.memory_model is None else device.memory(cost)


TABLE = (
    CostMetric(LATENCY, lambda c, net: c.latency(net), "--budget", measured=True),
    CostMetric(P95, lambda c, net: c.p95(net), "--max-p95", measured=True),
    CostMetric(TTFT, lambda c, net: c.served(net).ttft(c.device), "--max-ttft", measured=True),
    CostMetric(TPOT, lambda c, net: c.served(net).tpot(c.device), "--max-tpot", measured=True),
    CostMetric(ENERGY, lambda c, net: c.energy(net), "--max-energy"),
    CostMetric(MEMORY, _peak, "--max-memory"),
    CostMetric(SIZE, lambda c, net: Estimate.counted(SIZE, c.weight_bytes(net) / 2**20), "--max-size"),
    CostMetric(PARAMS, lambda c, net: Estimate.counted(PARAMS, c.cost(net).params), "--max-params", per_device=False),
    CostMetric(FLOPS, lambda c, net: Estimate.counted(FLOPS, c.cost(net).flops), "--max-flops", per_device=False),
)
OF_REQUESTS = ("ttft_ms", "tpot_ms")
"""Where one of them is asked for, a call of a net is a request with a prompt and tokens to generate."""
COSTS: Mapping[str, CostMetric] = {cost.metric.name: cost for cost in TABLE}
ALWAYS = ("params", "flops", "memory_mib", "size_mib")
"""What is shown of every net, asked for or not: no device is too little known for it."""


def cost_named(name: str) -> CostMetric:
    """Error: no such cost, with the nearest names."""
    if name not in COSTS:
        raise unknown("objective", name, COSTS)
    return COSTS[name]


def metric_of(column: str) -> Metric | None:
    """The cost that an objective or a column of a table is of (`energy_mj`, `energy_mj on t4`); None: of no cost."""
    cost = COSTS.get(column.partition(" on ")[0])
    return cost.metric if cost else None


def on_device(name: str, device: str) -> str:
    """`energy_mj on t4`; device: empty for the first one, of which objectives and columns have no device's name."""
    return f"{name} on {device}" if device else name


def check_estimates(candidates: "Candidates", names: Iterable[str]) -> None:
    """Errors: of the device, where it gives no estimate of one of these costs."""
    for name in names:
        cost_named(name).estimate(candidates, candidates.supernet.space.smallest)
