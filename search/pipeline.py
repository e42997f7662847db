"""The main job: from a run, a device and a budget to the best net, verified and written to files."""

import hashlib
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
from .costs import ALWAYS, COUNTED, Charge, Price, check_known, of_latency, price_of
from .limits import Bound, Limits, bound_of, bounds_of, check_limits, constraints_of
from .objectives import Objective, maximize, minimize
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
    *,
    objectives: Sequence[str] = (),
    evaluations: int = 200,
    algorithm: str = "auto",
    seed: int = 0,
    storage: str | Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> Answer:
    """Search, verify, choose. The test split is looked at once, for the chosen net.

    objectives: names of `costs.PRICES`, to be made small beside the latency, on each device.
    storage: an Optuna storage, in which each question (device, limits, objectives, algorithm, seed) is a study of its
        own.
    progress: called after every evaluation with (done, evaluations, study).
    Errors: Infeasible, if nothing that was evaluated fits; a cost that is not known of a device.
    """
    for on in limits.devices(candidates):
        check_known(on.candidates, (*objectives, *on.upper))
    bound, notes = check_limits(candidates, limits)
    wanted, bounds = _objectives(candidates, limits, objectives), bounds_of(candidates, limits)
    with disk_errors(storage):
        study = search(
            candidates.supernet.space,
            wanted,
            constraints=constraints_of(bounds, wanted),
            algorithm=algorithm,
            evaluations=evaluations,
            seed=seed,
            storage=storage,
            name=_question(candidates, limits, (*objectives,), algorithm, seed),
            progress=progress,
            workers=workers,
            ray=ray,
        )
    front = study.front()
    if front.empty:
        raise Infeasible(f"none of {evaluations} nets keeps all limits; raise --evaluations or loosen the limits")
    verdict = verify(candidates, _ranked(candidates, study, bounds), bound, limits.upper.get("latency_p95_ms"))
    chosen = verdict.architecture
    quality = candidates.quality(chosen)
    shown = tuple(dict.fromkeys((*objectives, *limits.upper, *ALWAYS)))
    return Answer(
        architecture=chosen,
        metric=candidates.task.metric_name,
        validation=quality,
        test=evaluate_subnet(candidates.supernet, candidates.task, chosen, "test"),
        latency=verdict.latency,
        predicted=candidates.latency(chosen),
        front=_with_costs(candidates, front, [study.architecture(i) for i in front["id"]], shown, verdict),
        front_architectures=[study.architecture(i) for i in front["id"]],
        bound_ms=bound,
        study=study,
        trials=_with_costs(candidates, study.trials(), study.architectures, shown, verdict),
        notes=[*prediction_notes(candidates), *_begun_with(len(study) - evaluations), *notes, *verdict.notes],
        bounded_by=_bounded_by(study, candidates.task.metric_name, quality, bounds),
        elsewhere={
            other.candidates.device.name: (
                other.candidates.latency(chosen),
                bound_of(other.candidates, other.budget) if other.budget else None,
            )
            for other in limits.elsewhere
        },
        charges=_charges(candidates, limits, objectives, verdict),
    )


def _objectives(candidates: Candidates, limits: Limits, names: Sequence[str]) -> dict[str, Objective]:
    """Quality; the latency on each device, and likewise the costs of these names."""
    quality = candidates.qualities
    found = {candidates.task.metric_name: maximize(quality, batched=True, key=candidates.quality_key)}
    for price in map(price_of, ("latency_ms", *names)):
        found[price.name] = _small(price, candidates)
        for other in limits.elsewhere if price.local else ():
            found[f"{price.name} on {other.candidates.device.name}"] = _small(price, other.candidates)
    return found


def _small(price: Price, candidates: Candidates) -> Objective:
    return minimize(lambda net: price.of(candidates, net).value)


def _begun_with(nets: int) -> list[str]:
    return [f"{nets} nets are known from earlier searches of this run; they were not evaluated again."] * (nets > 0)


def _question(candidates: Candidates, limits: Limits, objectives: tuple[str, ...], algorithm: str, seed: int) -> str:
    """A name for the study: the device in words, and a hash of all that the answer depends on."""
    # A device that was calibrated anew predicts other latencies.
    devices = [(on.candidates.device.model_dump_json(), on.budget, on.upper) for on in limits.devices(candidates)]
    text = repr((devices, candidates.batch, objectives, algorithm, seed))
    names = "+".join(on.candidates.device.name for on in limits.devices(candidates))
    return f"{names}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _ranked(candidates: Candidates, study: Study, bounds: Sequence[Bound]) -> list[Architecture]:
    """Nets that may be the answer, most accurate first: the front, in its order. Where nets are measured before one is
    chosen, all whose interval reaches below the bounds; of equally accurate ones that of the lowest loss."""
    metric = candidates.task.metric_name
    if not any(bound.least for bound in bounds):
        return [e.architecture for e in study.front_evaluations()]
    accuracies = study.trials().set_index("id")[metric].to_dict()
    found = [a for a in study.architectures if all(bound.may_keep(a) for bound in bounds)]
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
