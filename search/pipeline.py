"""From trained nets on devices, and limits, to the chosen net, verified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite, nan
from pathlib import Path

import pandas as pd

from ..errors import Infeasible
from ..search_space.architecture import Architecture
from ..supernet.evaluate import evaluate_subnet
from ..values import Estimate, Limit, Metric
from .calibration import prediction_notes
from .candidates import Candidates
from .costs import ALWAYS, CostMetric, check_estimates, cost_named, on_device
from .evaluation import Evaluation
from .failures import failure_notes
from .limits import AppliedLimit, applied
from .question import Question
from .recheck import recheck
from .run import Progress, search
from .storage import disk_errors
from .study import Study
from .verify import Verdict, as_estimate, verify


@dataclass(frozen=True)
class Choice:
    """The chosen net and how it came to be chosen. validation, test: its quality, in the unit of the metric; test is
    None where the task has no test split.

    front and trials: what `Study.front()` and `.trials()` gave, with latency intervals, measurements and counted costs;
    the front holds the chosen net, and `verdict` says of each net what came of its measurement. notes: what a user
    should know. study: all that was evaluated. fallen: why nets fell out when they were measured, by id. latency: on
    the first device, where it may be measured. costs: of the net beside it, named as objectives are
    (`energy_mj on t4`): those that were asked for, and those that are stated of every net. limits: the most of each, as
    `asked` states it.
    """

    architecture: Architecture
    metric: Metric
    validation: float
    test: float | None
    latency: Estimate
    predicted: Estimate
    front: pd.DataFrame
    front_architectures: list[Architecture]
    trials: pd.DataFrame
    study: Study
    notes: list[str] = field(default_factory=list)
    bounded_by: str = ""
    costs: Mapping[str, Estimate] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    asked: tuple[Limit, ...] = ()
    fallen: Mapping[str, str] = field(default_factory=dict)

    @property
    def bound_ms(self) -> float | None:
        """The most latency on the first device, in milliseconds."""
        return self.limits.get("latency_ms")

    @property
    def text(self) -> str:
        """In one line."""
        quality = f"{self.metric.text(self.validation)} {self.metric.name} on validation"
        return f"net {self.architecture.id}: {quality}, {self.latency.text}"


def choose(
    served: Sequence[Candidates],
    limits: Sequence[Limit] = (),
    question: Question | None = None,
    *,
    storage: str | Path | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Search, verify, choose. The test split is looked at once, for the chosen net.

    served: the nets on each device that the answer has to serve; fronts and reports are of the first.
    limits: on the device of their name; without one, on all.
    storage: an Optuna storage, in which each question (device, limits, objectives, algorithm, seed) is a study of its
        own.
    progress: called after every evaluation with (done, evaluations, study).
    Errors: Infeasible, if nothing that was evaluated fits; a cost of which a device gives no estimate.
    """
    question, candidates = question or Question(), served[0]
    for each in served:
        check_estimates(each, question.objectives)
    bounds = applied(served, limits)
    for bound in bounds:
        bound.check()
    with disk_errors(storage):
        study = search(
            candidates.supernet.space,
            question.pursued(served),
            constraints=[bound.constraint for bound in bounds],
            algorithm=question.algorithm,
            evaluations=question.evaluations,
            seed=question.seed,
            start=question.start,
            storage=storage,
            name=question.study_name(served, [bound.limit for bound in bounds]),
            progress=progress,
            workers=question.workers,
            ray=question.ray,
        )
    study.dropped += recheck(study, question.pursued(served))
    if not study.front_evaluations():
        most = question.evaluations
        raise Infeasible(f"none of {most} nets keeps all limits; raise evaluations or loosen the limits")
    verdict = _verified(candidates, study, bounds)
    slack = [note for bound in bounds for note in bound.notes]
    notes = [*prediction_notes(candidates), *_about(candidates, study, question.evaluations), *slack, *verdict.notes]
    return _choice(served, bounds, question, study, replace(verdict, notes=notes))


def _choice(
    served: Sequence[Candidates], bounds: Sequence[AppliedLimit], question: Question, study: Study, verdict: Verdict
) -> Choice:
    candidates, task, chosen = served[0], served[0].task, verdict.architecture
    quality = candidates.quality(chosen)
    front, trials = _front(study, chosen), study.trials()
    costs = _costs(served, bounds, question)
    shown = [cost for cost, on in costs.values() if on is candidates]
    estimates = {name: cost.estimate(on, chosen) for name, (cost, on) in costs.items()}
    if timed := verdict.measured.get(chosen.id):
        own = {name: cost.metric for name, (cost, on) in costs.items() if cost.measured and on is candidates}
        estimates |= {n: as_estimate(timed, verdict.latency.tier, m, least=verdict.least) for n, m in own.items()}
    limits = {bound.name: bound.upper for bound in bounds}
    return Choice(
        architecture=chosen,
        metric=task.metric,
        validation=quality,
        test=None if task.test is None else evaluate_subnet(candidates.supernet, task, chosen, "test"),
        latency=verdict.latency,
        predicted=candidates.latency(chosen),
        front=_with_costs(candidates, trials.iloc[front], [study.architectures[i] for i in front], shown, verdict),
        front_architectures=[study.architectures[i] for i in front],
        study=study,
        trials=_with_costs(candidates, trials, study.architectures, shown, verdict),
        notes=verdict.notes,
        bounded_by=_bounded_by(study, task.metric, quality, bounds, verdict),
        costs=estimates,
        limits=limits if verdict.bound_ms is None else {**limits, "latency_ms": verdict.bound_ms},
        asked=tuple(dict.fromkeys(bound.limit for bound in bounds)),
        fallen=verdict.fallen,
    )


def _costs(
    served: Sequence[Candidates], bounds: Sequence[AppliedLimit], question: Question
) -> dict[str, tuple[CostMetric, Candidates]]:
    """What is stated of nets beside their latency on the first device, by the names of objectives."""
    results = {}
    for on in served:
        first = on is served[0]
        limited = (bound.limit.metric.name for bound in bounds if bound.candidates is on)
        for cost in map(cost_named, (*question.objectives, *limited, *(ALWAYS if first else ("latency_ms",)))):
            if first or cost.per_device:
                results[on_device(cost.metric.name, "" if first else on.device.name)] = cost, on
    return {name: each for name, each in results.items() if name != "latency_ms"}


def _front(study: Study, chosen: Architecture) -> list[int]:
    """Rows of the front, and of the chosen net: as predicted it may be off the front, and was measured to be better."""
    rows = {*study.front_rows(), study.architectures.index(chosen)}
    return sorted(rows, key=lambda row: (study.evaluations[row].losses, row))


def _about(candidates: Candidates, study: Study, evaluations: int) -> list[str]:
    """How the nets of the study were evaluated."""
    begun = len(study) - evaluations
    notes = [*_direction_notes(candidates), *failure_notes(study)]
    if candidates.task.test is None:
        notes.append(f"Task {candidates.task.name!r} has no test split; no test quality is stated.")
    if study.dropped:
        notes.append(
            f"{study.dropped} stored evaluations were not what these nets evaluate to, or had changed since they were "
            "stored; they were dropped and made again."
        )
    if begun > 0:
        notes.append(f"{begun} nets were evaluated by earlier searches of this run, and not again.")
    return notes


def _direction_notes(candidates: Candidates) -> list[str]:
    """A direction that the name of the metric says, and not the task."""
    metric = candidates.task.metric
    if not candidates.task.inferred or metric.better == "max":
        return []
    return [
        f"The search makes {metric.name} small, as its name says that less is better; if more is, state better='max' "
        "in the task."
    ]


def _verified(candidates: Candidates, study: Study, bounds: Sequence[AppliedLimit]) -> Verdict:
    """The net that is the answer: of the front, in its order. Where nets are measured before one is chosen, of all
    whose interval reaches below the bounds, best first; of equally good ones that which is predicted to be fastest."""
    timed = [bound for bound in bounds if bound.cost.measured and bound.candidates is candidates]
    if not any(bound.measured for bound in timed):
        return verify(candidates, [e.architecture for e in study.front_evaluations()], timed)
    may = [e for e in study.evaluations if not e.failed and all(each.may_keep(e.architecture) for each in bounds)]
    losses = _losses(candidates, may)
    ranked = [e.architecture for e in may if e.architecture.id in losses]
    ranked.sort(key=lambda a: (losses[a.id], candidates.latency(a).value))
    return verify(candidates, ranked, timed, losses)


def _losses(candidates: Candidates, evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Quality by id, the smaller the better, where it is finite."""
    metric = candidates.task.metric
    losses = {e.architecture.id: metric.sign * e.metrics[metric.name] for e in evaluations}
    return {net: loss for net, loss in losses.items() if isfinite(loss)}


def _with_costs(
    candidates: Candidates,
    table: pd.DataFrame,
    nets: Sequence[Architecture],
    shown: Sequence[CostMetric],
    verdict: Verdict,
) -> pd.DataFrame:
    """The table with these costs, intervals and what was measured beside each net."""
    latencies, columns = [candidates.latency(a) for a in nets], dict[str, list[float]]()
    for cost in shown:
        metric, result = cost.metric, [cost.estimate(candidates, a) for a in nets]
        columns[metric.name] = [x.value for x in result]
        if any(x.source != "counted" for x in result):
            columns |= {metric.column("low"): [x.low for x in result], metric.column("high"): [x.high for x in result]}
    return table.reset_index(drop=True).assign(
        latency_low_ms=[x.low for x in latencies],
        latency_high_ms=[x.high for x in latencies],
        measured_ms=[timed.median_ms if (timed := verdict.measured.get(a.id)) else nan for a in nets],
        latency_source=[x.source for x in latencies],
        verdict=[verdict.of(net.id) for net in nets],
        **columns,
    )


def _bounded_by(study: Study, metric: Metric, quality: float, bounds: Sequence[AppliedLimit], verdict: Verdict) -> str:
    """The limits that kept a better net from being chosen."""

    def loss(evaluation: Evaluation) -> float:
        return metric.sign * evaluation.metrics[metric.name]

    better = [e for e in study.evaluations if not e.failed and loss(e) < metric.sign * quality]
    exceeding = [e for e in better if not e.feasible or e.architecture.id in verdict.fallen]
    names = [b.title for b in bounds if any(e.metrics.get(b.constraint.name, -inf) > b.upper for e in exceeding)]
    names += ["latency as measured"] if any(e.feasible for e in exceeding) else []
    if not names:
        return "nothing: no net that was evaluated is better"
    best = metric.sign * min(map(loss, exceeding))
    return f"{', '.join(names)}; better nets that exceed it: {len(exceeding)}, the best {metric.text(best)}"
