"""The main job: from a run, a device and a budget to the best net, verified and written to files."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ..errors import Infeasible
from ..hw_profiles import Latency
from ..search_space.architecture import Architecture
from ..supernet.evaluate import evaluate_subnet
from .calibration import prediction_notes
from .candidates import Candidates
from .limits import Limits, bound_of, check_limits, constraints_of, firm
from .objectives import Constraint, Objective, maximize, minimize
from .run import Progress, search
from .storage import disk_errors
from .study import Study
from .verify import verify


@dataclass(frozen=True)
class Answer:
    """The chosen net and how it came to be chosen. Accuracies from 0 to 1.

    front and trials: what `Study.front()` and `.trials()` gave, with latency intervals, measurements and counted costs;
    bound_ms: the latency budget in milliseconds; notes: what a user should know; study: all that was evaluated.
    """

    architecture: Architecture
    metric: str
    validation: float
    test: float
    latency: Latency
    predicted: Latency
    front: pd.DataFrame
    front_architectures: list[Architecture]
    trials: pd.DataFrame
    study: Study
    bound_ms: float | None = None
    notes: list[str] = field(default_factory=list)
    bounded_by: str = ""
    elsewhere: dict[str, tuple[Latency, float | None]] = field(default_factory=dict)
    """Of the other devices, by name: the latency there and its bound in milliseconds."""


def find(
    candidates: Candidates,
    limits: Limits,
    *,
    evaluations: int = 200,
    algorithm: str = "auto",
    seed: int = 0,
    storage: str | Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> Answer:
    """Search, verify, choose. The test split is looked at once, for the chosen net.

    storage: an Optuna storage, in which each question (device, limits, algorithm, seed) is a study of its own.
    progress: called after every evaluation with (done, evaluations, study).
    Errors: Infeasible, if nothing that was evaluated fits.
    """
    bound, notes = check_limits(candidates, limits)
    constraints = constraints_of(candidates, limits, bound)
    with disk_errors(storage):
        study = search(
            candidates.supernet.space,
            _objectives(candidates, limits),
            constraints=constraints,
            algorithm=algorithm,
            evaluations=evaluations,
            seed=seed,
            storage=storage,
            name=_question(candidates, limits, algorithm, seed),
            progress=progress,
            workers=workers,
            ray=ray,
        )
    front = study.front()
    if front.empty:
        raise Infeasible(f"none of {evaluations} nets keeps all limits; raise --evaluations or loosen the limits")
    verdict = verify(candidates, _ranked(candidates, study, limits, bound), bound)
    chosen = verdict.architecture
    quality = candidates.quality(chosen)
    return Answer(
        architecture=chosen,
        metric=candidates.task.metric_name,
        validation=quality,
        test=evaluate_subnet(candidates.supernet, candidates.task, chosen, "test"),
        latency=verdict.latency,
        predicted=candidates.latency(chosen),
        front=_with_costs(candidates, study, front, verdict.measured_ms),
        front_architectures=[study.architecture(i) for i in front["id"]],
        bound_ms=bound,
        study=study,
        trials=_with_costs(candidates, study, study.trials(), verdict.measured_ms),
        notes=[*prediction_notes(candidates), *_begun_with(len(study) - evaluations), *notes, *verdict.notes],
        bounded_by=_bounded_by(study, candidates.task.metric_name, quality, constraints),
        elsewhere={
            other.candidates.device.name: (
                other.candidates.latency(chosen),
                bound_of(other.candidates, other.budget) if other.budget else None,
            )
            for other in limits.elsewhere
        },
    )


def _objectives(candidates: Candidates, limits: Limits) -> dict[str, Objective]:
    """Quality, and the latency on each device."""
    validation = candidates.qualities
    quality = maximize(validation, batched=True, key=candidates.quality_key, fidelities=validation.fidelities)

    def latency(on: Candidates) -> Objective:
        return minimize(lambda a: on.latency(a).mean_ms)

    elsewhere = {other.name: latency(other.candidates) for other in limits.elsewhere}
    return {candidates.task.metric_name: quality, "latency_ms": latency(candidates)} | elsewhere


def _begun_with(nets: int) -> list[str]:
    return [f"{nets} nets are known from earlier searches of this run; they were not evaluated again."] * (nets > 0)


def _question(candidates: Candidates, limits: Limits, algorithm: str, seed: int) -> str:
    """A name for the study: the device in words, and a hash of all that the answer depends on."""
    # A device that was calibrated anew predicts other latencies.
    others = [(other.candidates.device.model_dump_json(), other.budget) for other in limits.elsewhere]
    own = (replace(limits, elsewhere=()), candidates.batch, candidates.device.model_dump_json())
    text = repr((own, others, algorithm, seed))
    devices = "+".join(c.device.name for c in (candidates, *(other.candidates for other in limits.elsewhere)))
    return f"{devices}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _ranked(candidates: Candidates, study: Study, limits: Limits, bound: float | None) -> list[Architecture]:
    """Nets that may be the answer, most accurate first: the front. On a device at hand, where nets are measured before
    one is chosen, all whose interval reaches below the bound; of equally accurate ones that of the lowest loss."""
    metric = candidates.task.metric_name
    if not candidates.device.measurable or bound is None:
        ranked = study.front().sort_values([metric, "latency_ms"], ascending=[False, True])
        return [study.architecture(i) for i in ranked["id"]]
    bounds, accuracies = firm(candidates, limits), study.trials().set_index("id")[metric].to_dict()

    def may_be(a: Architecture) -> bool:
        return candidates.latency(a).low_ms <= bound and all(measure(a) <= most for _, most, measure in bounds)

    found = [a for a in (study.architecture(str(name)) for name in accuracies) if may_be(a)]
    tied = Counter(accuracies[a.id] for a in found)

    def key(a: Architecture) -> tuple[float, float]:
        return -accuracies[a.id], candidates.loss(a) if tied[accuracies[a.id]] > 1 else 0.0

    return sorted(found, key=key)


def _with_costs(
    candidates: Candidates, study: Study, table: pd.DataFrame, measured_ms: Mapping[str, float]
) -> pd.DataFrame:
    """The table with latency intervals, what was measured and counted costs beside each net."""
    nets = [study.architecture(i) for i in table["id"]]
    latencies, costs = [candidates.latency(a) for a in nets], [candidates.cost(a) for a in nets]
    return table.assign(
        latency_low_ms=[x.low_ms for x in latencies],
        latency_high_ms=[x.high_ms for x in latencies],
        measured_ms=table["id"].map(measured_ms),
        latency_source=[x.source for x in latencies],
        params=[c.params for c in costs],
        flops=[c.flops for c in costs],
        memory_mib=[candidates.memory_mib(a) for a in nets],
    )


def _bounded_by(study: Study, metric: str, quality: float, constraints: Sequence[Constraint]) -> str:
    """The limits that kept a more accurate net from being chosen."""
    trials = study.trials()
    better = trials[(trials[metric] > quality) & ~trials["feasible"].astype(bool)]
    names = [
        c.name.removesuffix("_bound_ms")
        for c in constraints
        if c.upper is not None and (better[c.name] > c.upper).any()
    ]
    if not names:
        return "nothing: no net that was evaluated is more accurate"
    return f"{', '.join(names)}; more accurate nets that exceed it: {len(better)}, up to {better[metric].max():.2%}"
