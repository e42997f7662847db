"""The main job: from a run, a device and a budget to the best net, verified and written to files."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EIO
from pathlib import Path

import pandas as pd
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from ..errors import Infeasible
from ..hw_profiles import Latency
from ..search_space.architecture import Architecture
from ..supernet.evaluate import evaluate_subnet
from .calibration import prediction_notes
from .candidates import Candidates
from .feasibility import Measure, blame, least, sentence
from .objectives import Constraint, maximize, minimize
from .run import search
from .study import Study
from .units import Budget
from .verify import verify

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Limits:
    """What the net may cost. None: no limit."""

    budget: Budget | None = None
    params: float | None = None
    memory_mib: float | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Answer:
    """The chosen net and how it came to be chosen. Accuracies from 0 to 1.

    front and trials: what `Study.front()` and `.trials()` gave, with latency intervals, measurements and counted costs;
    bound_ms: the latency budget in milliseconds; notes: what a user should know.
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
    bound_ms: float | None = None
    notes: list[str] = field(default_factory=list)
    bounded_by: str = ""


def check_limits(candidates: Candidates, limits: Limits) -> tuple[float | None, list[str]]:
    """What `check_budget` says of the latency. Error: Infeasible too if no net keeps another limit by itself."""
    space = candidates.supernet.space
    for name, upper, measure in _counted(candidates, limits):
        least_of_all = least(space, measure)
        if measure(least_of_all) > upper:
            found = f"The least, of net {least_of_all.id}, is {measure(least_of_all):.6g}"
            why = sentence(blame(space, least_of_all, measure), name)
            raise Infeasible(f"no net of the space keeps {name} at most {upper:.6g}. {found}. It is held up by {why}.")
    return check_budget(candidates, limits.budget)


def check_budget(candidates: Candidates, budget: Budget | None) -> tuple[float | None, list[str]]:
    """(bound on the latency in ms, notes). Error: Infeasible, with the fastest net and what holds it up.

    `_upper` says which number it bounds; one in per cent is a share of the largest net's mean.
    """
    if budget is None:
        return None, []
    space, upper = candidates.supernet.space, _upper(candidates, budget)
    largest = candidates.latency(space.largest)
    bound = budget.ms if budget.ms is not None else (budget.share or 0) * largest.mean_ms
    if upper(space.smallest) > bound:
        fastest = least(space, upper)
        if upper(fastest) > bound:
            raise Infeasible(_infeasible(candidates, budget, fastest, largest.mean_ms))
    if upper(space.largest) <= bound:
        return bound, [f"The budget does not bind: even the largest net takes {upper(space.largest):.3g} ms."]
    return bound, []


def _upper(candidates: Candidates, budget: Budget) -> Callable[[Architecture], float]:
    """The number that a budget bounds: the upper end where nothing else keeps the promise.

    On a machine at hand the nets are measured before one is chosen; there the mean is bounded, or the budget would be
    left unused. So it is for a budget in per cent: what is not known of the device stretches both sides alike.
    """

    def upper(architecture: Architecture) -> float:
        latency = candidates.latency(architecture)
        return latency.mean_ms if budget.ms is None or candidates.device.measurable else latency.high_ms

    return upper


def _infeasible(candidates: Candidates, budget: Budget, fastest: Architecture, largest_ms: float) -> str:
    latency, upper = candidates.latency(fastest), _upper(candidates, budget)
    blames = blame(candidates.supernet.space, fastest, upper)
    share = math.ceil(100 * upper(fastest) / largest_ms)
    nearest = f"{upper(fastest) * 1.01:.3g}ms" if budget.ms is not None else f"{share}%"
    end = "mean" if budget.ms is None or candidates.device.measurable else "upper end"
    return (
        f"no net of the space keeps {budget.text} on {candidates.device.name}. The fastest, {fastest.id}, takes "
        f"{latency.mean_ms:.3g} ms ({latency.low_ms:.3g} to {latency.high_ms:.3g}, {latency.source}); the budget "
        f"bounds the {end}. It is held up by {sentence(blames, 'ms')}. "
        f"The nearest feasible budget is {nearest}."
    )


def find(
    candidates: Candidates,
    limits: Limits,
    *,
    evaluations: int = 200,
    algorithm: str = "auto",
    seed: int = 0,
    storage: str | Path | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Search, verify, choose. The test split is looked at once, for the chosen net.

    storage: an Optuna storage, in which each question (device, limits, algorithm, seed) is a study of its own.
    Errors: Infeasible, if nothing that was evaluated fits.
    """
    bound, notes = check_limits(candidates, limits)
    constraints = _constraints(candidates, limits, bound)
    with _disk_errors(storage):
        study = search(
            candidates.supernet.space,
            {
                candidates.task.metric_name: maximize(candidates.qualities, batched=True, key=candidates.quality_key),
                "latency_ms": minimize(lambda a: candidates.latency(a).mean_ms),
            },
            constraints=constraints,
            algorithm=algorithm,
            evaluations=evaluations,
            seed=seed,
            storage=storage,
            name=_question(candidates, limits, algorithm, seed),
            progress=None if progress is None else lambda done, total, _: progress(done, total),
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
        trials=_with_costs(candidates, study, study.trials(), verdict.measured_ms),
        notes=[*prediction_notes(candidates), *_begun_with(len(study) - evaluations), *notes, *verdict.notes],
        bounded_by=_bounded_by(study, candidates.task.metric_name, quality, constraints),
    )


def _begun_with(nets: int) -> list[str]:
    return [f"{nets} nets are known from earlier searches of this run; they were not evaluated again."] * (nets > 0)


@contextmanager
def _disk_errors(storage: str | Path | None) -> Iterator[None]:
    """A database that cannot be read or written is an OSError, as any other file."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = str(getattr(error.__cause__, "orig", None) or getattr(error, "orig", None) or error)
        raise OSError(EIO, cause.splitlines()[0], str(storage)) from error


def _question(candidates: Candidates, limits: Limits, algorithm: str, seed: int) -> str:
    """A name for the study: the device in words, and a hash of all that the answer depends on."""
    model = candidates.device.model_dump_json()  # a device that was calibrated anew predicts other latencies
    text = repr((limits, candidates.batch, algorithm, seed, model))
    return f"{candidates.device.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _constraints(candidates: Candidates, limits: Limits, bound: float | None) -> list[Constraint]:
    found = [Constraint(name, upper=upper, function=measure) for name, upper, measure in _counted(candidates, limits)]
    if limits.budget is not None and bound is not None:
        found.insert(0, Constraint("latency_bound_ms", upper=bound, function=_upper(candidates, limits.budget)))
    return found


def _counted(candidates: Candidates, limits: Limits) -> list[tuple[str, float, Measure]]:
    """(name, upper bound, function) of the limits on what is counted, not predicted."""
    counted: list[tuple[str, float | None, Measure]] = [
        ("params", limits.params, lambda a: candidates.cost(a).params),
        ("memory_mib", limits.memory_mib, candidates.memory_mib),
        ("flops", limits.flops, lambda a: candidates.cost(a).flops),
    ]
    return [(name, upper, measure) for name, upper, measure in counted if upper is not None]


def _ranked(candidates: Candidates, study: Study, limits: Limits, bound: float | None) -> list[Architecture]:
    """Nets that may be the answer, most accurate first: the front. On a device at hand, where nets are measured before
    one is chosen, all whose interval reaches below the bound; of equally accurate ones that of the lowest loss."""
    metric = candidates.task.metric_name
    if not candidates.device.measurable or bound is None:
        ranked = study.front().sort_values([metric, "latency_ms"], ascending=[False, True])
        return [study.architecture(i) for i in ranked["id"]]
    counted, accuracies = _counted(candidates, limits), study.trials().set_index("id")[metric].to_dict()

    def may_be(a: Architecture) -> bool:
        return candidates.latency(a).low_ms <= bound and all(measure(a) <= most for _, most, measure in counted)

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
