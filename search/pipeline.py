"""The main job: from a run, a device and a budget to the best net, verified and written to files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from pathlib import Path

import pandas as pd

from ..errors import Infeasible
from ..search_space.architecture import Architecture
from ..supernet.evaluate import evaluate_subnet
from ..tasks.metrics import name_of, quality_text
from ..values import P95, Estimate
from .calibration import prediction_notes
from .candidates import Candidates
from .costs import ALWAYS, COUNTED, Charge, check_known, price_of
from .evaluation import Evaluation
from .failures import failure_notes
from .limits import Bound, Limits, bound_of, bounds_of, check_limits, constraints_of
from .question import Question
from .recheck import recheck
from .run import Progress, search
from .storage import disk_errors
from .study import Study
from .verify import Verdict, as_estimate, verify


@dataclass(frozen=True)
class Answer:
    """The chosen net and how it came to be chosen. validation, test: its quality, in the unit of the metric.

    front and trials: what `Study.front()` and `.trials()` gave, with latency intervals, measurements and counted costs;
    the front holds the chosen net, and `verdict` says of each net what came of its measurement. bound_ms: the latency
    budget in milliseconds; notes: what a user should know; study: all that was evaluated. fallen: why nets fell out
    when they were measured, by id.
    """

    architecture: Architecture
    metric: str
    validation: float
    test: float
    latency: Estimate
    predicted: Estimate
    front: pd.DataFrame
    front_architectures: list[Architecture]
    trials: pd.DataFrame
    study: Study
    bound_ms: float | None = None
    notes: list[str] = field(default_factory=list)
    bounded_by: str = ""
    elsewhere: dict[str, tuple[Estimate, float | None]] = field(default_factory=dict)
    """Of the other devices, by name: the latency there and its bound in milliseconds."""
    charges: list[Charge] = field(default_factory=list)
    """Costs of the chosen net beside the latency: those that were asked for, and what is known of every net."""
    fallen: Mapping[str, str] = field(default_factory=dict)

    @property
    def sign(self) -> int:
        """What turns a quality into a loss: -1 where more is better."""
        return self.study.problem.objectives[self.metric].sign


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
    verdict = _verified(candidates, limits, study, bounds, bound)
    said = [*prediction_notes(candidates), *_about(candidates, study, question.evaluations), *notes, *verdict.notes]
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
    chosen, metric = verdict.architecture, candidates.task.metric_name
    quality = candidates.quality(chosen)
    front, trials = _front(study, chosen), study.trials()
    shown = tuple(n for n in dict.fromkeys((*question.objectives, *limits.upper, *ALWAYS)) if n != "latency_ms")
    return Answer(
        architecture=chosen,
        metric=metric,
        validation=quality,
        test=evaluate_subnet(candidates.supernet, candidates.task, chosen, "test"),
        latency=verdict.latency,
        predicted=candidates.latency(chosen),
        front=_with_costs(candidates, trials.iloc[front], [study.architectures[i] for i in front], shown, verdict),
        front_architectures=[study.architectures[i] for i in front],
        bound_ms=verdict.bound_ms,
        study=study,
        trials=_with_costs(candidates, trials, study.architectures, shown, verdict),
        notes=notes,
        bounded_by=_bounded_by(study, metric, quality, bounds_of(candidates, limits), verdict),
        elsewhere={
            other.candidates.device.name: (
                other.candidates.latency(chosen),
                bound_of(other.candidates, other.budget) if other.budget else None,
            )
            for other in limits.elsewhere
        },
        charges=_charges(candidates, limits, question.objectives, verdict),
        fallen=verdict.fallen,
    )


def _front(study: Study, chosen: Architecture) -> list[int]:
    """Rows of the front, and of the chosen net: as predicted it may be off the front, and was measured to be better."""
    rows = {*study.front_rows(), study.architectures.index(chosen)}
    return sorted(rows, key=lambda row: (study.evaluations[row].losses, row))


def _about(candidates: Candidates, study: Study, evaluations: int) -> list[str]:
    """How the nets of the study were evaluated."""
    begun = len(study) - evaluations
    said = [*_direction_notes(candidates), *failure_notes(study)]
    if study.dropped:
        said.append(
            f"{study.dropped} stored evaluations were not what these nets evaluate to, or had changed since they were "
            "stored; they were dropped and made again."
        )
    if begun > 0:
        said.append(f"{begun} nets are known from earlier searches of this run; they were not evaluated again.")
    return said


def _direction_notes(candidates: Candidates) -> list[str]:
    """A direction that the name of the metric says, and not the task."""
    task = candidates.task
    if task.better is not None or task.direction == "max":
        return []
    return [
        f"The search makes {task.metric_name} ({name_of(task.metric)}) small, as its name says that less is better; "
        "if more is, state better='max' in the task."
    ]


def _verified(
    candidates: Candidates, limits: Limits, study: Study, bounds: Sequence[Bound], bound: float | None
) -> Verdict:
    """The net that is the answer: of the front, in its order. Where nets are measured before one is chosen, of all
    whose interval reaches below the bounds, best first; of equally good ones that which is predicted to be fastest."""
    share, p95 = limits.budget.share if limits.budget else None, limits.upper.get("latency_p95_ms")
    if not any(each.least for each in bounds):
        return verify(candidates, [e.architecture for e in study.front_evaluations()], bound, p95, share=share)
    may = [e for e in study.evaluations if not e.failed and all(each.may_keep(e.architecture) for each in bounds)]
    losses = _losses(candidates, study, may)
    ranked = [e.architecture for e in may if e.architecture.id in losses]
    ranked.sort(key=lambda a: (losses[a.id], candidates.latency(a).value))
    return verify(candidates, ranked, bound, p95, share=share, losses=losses)


def _losses(candidates: Candidates, study: Study, evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Quality by id, the smaller the better, where it is finite."""
    metric = candidates.task.metric_name
    found = {e.architecture.id: e.metrics[metric] for e in evaluations}
    sign = study.problem.objectives[metric].sign
    return {net: sign * quality for net, quality in found.items() if isfinite(quality)}


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
    return table.reset_index(drop=True).assign(
        latency_low_ms=[x.low for x in latencies],
        latency_high_ms=[x.high for x in latencies],
        measured_ms=[timed.median_ms if (timed := verdict.measured.get(a.id)) else nan for a in nets],
        latency_source=[x.source for x in latencies],
        verdict=[verdict.of(net.id) for net in nets],
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
                amount = as_estimate(timed, verdict.latency.tier, P95, least=verdict.least)
            found.append(Charge(price, amount, on.upper.get(price.name), where))
    return found


def _bounded_by(study: Study, metric: str, quality: float, bounds: Sequence[Bound], verdict: Verdict) -> str:
    """The limits that kept a better net from being chosen."""
    sign, more = study.problem.objectives[metric].sign, comparative(metric)
    better = [e for e in study.evaluations if not e.failed and sign * e.metrics[metric] < sign * quality]
    exceeding = [e for e in better if not e.feasible or e.architecture.id in verdict.fallen]
    names = [b.said for b in bounds if any(e.metrics.get(b.name, -inf) > b.upper for e in exceeding)]
    names += ["latency as measured"] if any(e.feasible for e in exceeding) else []
    if not names:
        return f"nothing: no net that was evaluated is {more}"
    best = quality_text(max((e.metrics[metric] for e in exceeding), key=lambda value: -sign * value), metric)
    return f"{', '.join(names)}; {more} nets that exceed it: {len(exceeding)}, up to {best}"


def comparative(metric: str) -> str:
    """How a net is called whose quality is better."""
    return "more accurate" if metric == "accuracy" else "better"
