"""What a search is asked beside its limits, and the objectives and the name of the study that follow from it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import check_least
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.quantization import GENE
from ..supernet.cluster import check_workers
from ..values import Limit
from .algorithms import load_algorithm
from .candidates import Candidates
from .costs import CostMetric, cost_named, on_device
from .objectives import Objective
from .storage import space_id


@dataclass(frozen=True)
class Question:
    """objectives: names of `costs.COSTS`, to be made small beside the latency, on each device.

    evaluations, algorithm, seed, workers, ray: as of `nas.search`.
    """

    objectives: tuple[str, ...] = ()
    evaluations: int = 200
    algorithm: str = "auto"
    seed: int = 0
    workers: int | None = None
    ray: str | None = None
    start: tuple[Mapping[str, GeneValue], ...] = ()

    def __post_init__(self) -> None:
        check_least(1, evaluations=self.evaluations)
        check_least(0, seed=self.seed)
        for name in self.objectives:
            cost_named(name)
        load_algorithm(self.algorithm)
        check_workers(self.workers, self.ray)

    def pursued(self, served: Sequence[Candidates]) -> dict[str, Objective]:
        """Quality; the latency on each device, and likewise the costs that are named."""
        candidates, *others = served
        metric = candidates.task.metric
        results = {metric.name: Objective(candidates.quality, metric, key=candidates.quality_key)}
        for cost in map(cost_named, ("latency_ms", *self.objectives)):
            results[cost.metric.name] = _small(cost, candidates)
            for other in others if cost.per_device else ():
                results[on_device(cost.metric.name, other.device.name)] = _small(cost, other)
        return results

    def study_name(self, served: Sequence[Candidates], limits: Sequence[Limit]) -> str:
        """The devices in words, and a hash of all that the answer depends on."""
        # A device that was calibrated anew predicts other latencies.
        candidates, devices = served[0], [each.device.model_dump_json() for each in served]
        own: tuple[object, ...] = (candidates.batch, self.objectives, self.algorithm, self.seed)
        own = own if candidates.request is None else (*own, candidates.request)
        space = candidates.supernet.space
        if self.start:
            own = (*own, *(Architecture(net).id for net in self.start))
        if any(gene.startswith(GENE) for gene in space.genes):  # of one run, in one storage, there may be several
            own = (*own, space_id(space))
        names = "+".join(each.device.name for each in served)
        return f"{names}-{hashlib.sha256(repr((devices, list(limits), own)).encode()).hexdigest()[:8]}"


def _small(cost: CostMetric, candidates: Candidates) -> Objective:
    return Objective(lambda net: cost.estimate(candidates, net).value, cost.metric)
