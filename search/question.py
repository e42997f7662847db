"""What a search is asked beside its limits, and the objectives and the name of the study that follow from it."""

import hashlib
from dataclasses import dataclass

from ..errors import check_least
from ..search_space.quantization import GENE
from .candidates import Candidates
from .costs import Price, price_of
from .limits import Limits
from .objectives import Objective, maximize, minimize
from .storage import space_id


@dataclass(frozen=True)
class Question:
    """objectives: names of `costs.PRICES`, to be made small beside the latency, on each device.

    evaluations, algorithm, seed, workers, ray: as of `nas.search`.
    """

    objectives: tuple[str, ...] = ()
    evaluations: int = 200
    algorithm: str = "auto"
    seed: int = 0
    workers: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        check_least(1, evaluations=self.evaluations)
        check_least(0, seed=self.seed)

    def pursued(self, candidates: Candidates, limits: Limits) -> dict[str, Objective]:
        """Quality; the latency on each device, and likewise the costs that are named."""
        better = maximize if candidates.task.direction == "max" else minimize
        found = {candidates.task.metric_name: better(candidates.quality, key=candidates.quality_key)}
        for price in map(price_of, ("latency_ms", *self.objectives)):
            found[price.name] = _small(price, candidates)
            for other in limits.elsewhere if price.local else ():
                found[f"{price.name} on {other.candidates.device.name}"] = _small(price, other.candidates)
        return found

    def study_name(self, candidates: Candidates, limits: Limits) -> str:
        """The devices in words, and a hash of all that the answer depends on."""
        # A device that was calibrated anew predicts other latencies.
        devices = [(on.candidates.device.model_dump_json(), on.budget, on.upper) for on in limits.devices(candidates)]
        own: tuple[object, ...] = (candidates.batch, self.objectives, self.algorithm, self.seed)
        space = candidates.supernet.space
        if any(gene.startswith(GENE) for gene in space.genes):  # of one run, in one storage, there may be several
            own = (*own, space_id(space))
        names = "+".join(on.candidates.device.name for on in limits.devices(candidates))
        return f"{names}-{hashlib.sha256(repr((devices, own)).encode()).hexdigest()[:8]}"


def _small(price: Price, candidates: Candidates) -> Objective:
    return minimize(lambda net: price.of(candidates, net).value)
