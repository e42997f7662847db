"""The main job: from a run, a device and a budget to the best net, verified and written to files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..errors import Infeasible
from ..hw_profiles import Latency
from ..search_space.architecture import Architecture
from ..supernet.evaluate import evaluate_subnet
from .calibration import prediction_notes
from .candidates import Candidates
from .costs import ALWAYS, COUNTED, Charge, check_known, of_latency, price_of
from .limits import Bound, Limits, bound_of, bounds_of, check_limits, constraints_of
from .question import Question
from .recheck import recheck
from .run import Progress, search
from .storage import disk_errors
from .study import Study
from .verify import Verdict, as_latency, verify


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
    charges: list[Charge] = field(default_factory=list)
    """Costs of the chosen net beside the latency: those that were asked for, and what is known of every net."""


def find(
    candidates: Candidates,
    limits: Limits,
    question: Question | None = None,
    *,
    storage: str | Path | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Search, verify, choose. The test split is looked at once, for the chosen net.

    storage: an Optuna storage, in which each question (device, limits, objectives, algorithm, seed) is a study of its
        own.
    progress: called after every evaluation with (done, evaluations, study).
    Errors: Infeasible, if nothing that was evaluated fits; a cost that is not known of a device.
    """
    question = question or Question()
    for on in limits.devices(candidates):
        check_known(on.candidates, (*question.objectives, *on.upper))
    bound, notes = check_limits(candidates, limits)
    bounds = bounds_of(candidates, limits)
    study = _searched(candidates, limits, bounds, question, storage=storage, progress=progress)
    study.dropped += recheck(study, question.pursued(candidates, limits))
    if not study.front_evaluations():
        most = question.evaluations
        raise Infeasible(f"none of {most} nets keeps all limits; raise --evaluations or loosen the limits")
    verdict = verify(candidates, _ranked(candidates, study, bounds), bound, limits.upper.get("latency_p95_ms"))
    said = [*prediction_notes(candidates), *_about(study, question.evaluations), *notes, *verdict.notes]
    return _answer(candidates, limits, question, study, verdict, said)


def _searched(
    candidates: Candidates,
    limits: Limits,
    bounds: Sequence[Bound],
    question: Question,
    *,
    storage: str | Path | None,
    progress: Progress | None,
) -> Study:
    objectives = question.pursued(candidates, limits)
    with disk_errors(storage):
        return search(
            candidates.supernet.space,
            objectives,
            constraints=constraints_of(bounds, objectives),
            algorithm=question.algorithm,
            evaluations=question.evaluations,
            seed=question.seed,
            storage=storage,
            name=question.study_name(candidates, limits),
            progress=progress,
            workers=question.workers,
            ray=question.ray,
        )


def _answer(
    candidates: Candidates, limits: Limits, question: Question, study: Study, verdict: Verdict, notes: list[str]
) -> Answer:
    chosen, front = verdict.architecture, study.front()
    quality = candidates.quality(chosen)
    shown = tuple(dict.fromkeys((*question.objectives, *limits.upper, *ALWAYS)))
    return Answer(
        architecture=chosen,
        metric=candidates.task.metric_name,
        validation=quality,
        test=evaluate_subnet(candidates.supernet, candidates.task, chosen, "test"),
        latency=verdict.latency,
        predicted=candidates.latency(chosen),
        front=_with_costs(candidates, front, [study.architecture(i) for i in front["id"]], shown, verdict),
        front_architectures=[study.architecture(i) for i in front["id"]],
        bound_ms=bound_of(candidates, limits.budget) if limits.budget else None,
        study=study,
        trials=_with_costs(candidates, study.trials(), study.architectures, shown, verdict),
        notes=notes,
        bounded_by=_bounded_by(study, candidates.task.metric_name, quality, bounds_of(candidates, limits)),
        elsewhere={
            other.candidates.device.name: (
                other.candidates.latency(chosen),
                bound_of(other.candidates, other.budget) if other.budget else None,
            )
            for other in limits.elsewhere
        },
        charges=_charges(candidates, limits, question.objectives, verdict),
    )


def _about(study: Study, evaluations: int) -> list[str]:
    """How the nets of the study were evaluated."""
    begun, early = len(study) - evaluations, sum(e.fidelity < 1 for e in study.evaluations)
    said = []
    if study.dropped:
        said.append(
            f"{study.dropped} stored evaluations were not what these nets evaluate to, or had changed since they were "
            "stored; they were dropped and made again."
        )
    if begun > 0:
        said.append(f"{begun} nets are known from earlier searches of this run; they were not evaluated again.")
    if early:
        said.append(f"{early} nets were beaten after a part of the validation split; their qualities are estimates.")
    return said


def _ranked(candidates: Candidates, study: Study, bounds: Sequence[Bound]) -> list[Architecture]:
    """Nets that may be the answer, most accurate first: the front, in its order. Where nets are measured before one is
    chosen, all whose interval reaches below the bounds; of equally accurate ones that of the lowest loss."""
    metric = candidates.task.metric_name
    if not any(bound.least for bound in bounds):
        return [e.architecture for e in study.front_evaluations()]
    accuracies = study.trials().set_index("id")[metric].to_dict()
    found = [a for a in study.architectures if all(bound.may_keep(a) for bound in bounds)]
    # One that was given up may be the answer if those that beat it turn out slower than predicted.
    estimated = [e.architecture for e in study.evaluations if e.fidelity < 1 and e.architecture in found]
    accuracies |= dict(zip((a.id for a in estimated), candidates.qualities(estimated), strict=True))
    tied = Counter(accuracies[a.id] for a in found)

    def key(a: Architecture) -> tuple[float, float]:
        return -accuracies[a.id], candidates.loss(a) if tied[accuracies[a.id]] > 1 else 0.0

    return sorted(found, key=key)


def _with_costs(
    candidates: Candidates, table: pd.DataFrame, nets: Sequence[Architecture], shown: Sequence[str], verdict: Verdict
) -> pd.DataFrame:
    """The table with the costs of these names, intervals and what was measured beside each net."""
    latencies, columns = [candidates.latency(a) for a in nets], dict[str, list[float]]()
    for price in map(price_of, shown):
        amounts = [price.of(candidates, a) for a in nets]
        columns[price.name] = [x.value for x in amounts]
        if any(x.source != COUNTED for x in amounts):
            columns |= {price.column("low"): [x.low for x in amounts], price.column("high"): [x.high for x in amounts]}
    return table.assign(
        latency_low_ms=[x.low_ms for x in latencies],
        latency_high_ms=[x.high_ms for x in latencies],
        measured_ms=table["id"].map({i: m.median_ms for i, m in verdict.measured.items()}),
        latency_source=[x.source for x in latencies],
        **columns,
    )


def _charges(candidates: Candidates, limits: Limits, objectives: Sequence[str], verdict: Verdict) -> list[Charge]:
    """What the chosen net costs on each device, but its latency."""
    found, timed = [], verdict.measured.get(verdict.architecture.id)
    for on in limits.devices(candidates):
        first = on.candidates is candidates
        where = "" if first else on.candidates.device.name
        shown = dict.fromkeys((*objectives, *on.upper, *(ALWAYS if first else ())))
        for price in (p for p in map(price_of, shown) if p.name != "latency_ms" and (first or p.local)):
            amount = price.of(on.candidates, verdict.architecture)
            if first and timed is not None and price.name == "latency_p95_ms":
                amount = of_latency(as_latency(timed, verdict.latency.tier, p95=True))
            found.append(Charge(price, amount, on.upper.get(price.name), where))
    return found


def _bounded_by(study: Study, metric: str, quality: float, bounds: Sequence[Bound]) -> str:
    """The limits that kept a more accurate net from being chosen."""
    trials = study.trials()
    better = trials[(trials[metric] > quality) & ~trials["feasible"].astype(bool)]
    names = [b.said for b in bounds if (better[b.name] > b.upper).any()]
    if not names:
        return "nothing: no net that was evaluated is more accurate"
    return f"{', '.join(names)}; more accurate nets that exceed it: {len(better)}, up to {better[metric].max():.2%}"
