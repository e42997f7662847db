"""The search loop: ask, evaluate, store; from the start or from where a killed search stopped."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np

from ..errors import UserError, check_least
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.gene_space import GeneSpace
from ..supernet.cluster import check_workers
from .algorithms import Algorithm, load_algorithm
from .calls import evaluate
from .evaluation import Asked
from .failures import missing
from .objectives import Constraint
from .problem import Problem, make_problem
from .recall import Recall, recall
from .start import starting_from
from .storage import Store, fingerprint_of, open_store
from .study import Study
from .workers import Workers

Progress = Callable[[int, int, Study], None]


class NoFiniteValue(UserError):
    """Every architecture failed: nothing can be compared."""


def search(
    space: GeneSpace,
    objectives: Mapping[str, Any],
    *,
    constraints: Sequence[Constraint] = (),
    algorithm: str | Algorithm = "auto",
    evaluations: int = 200,
    seed: int = 0,
    storage: str | os.PathLike[str] | None = None,
    name: str = "nas",
    warm: bool = True,
    start: Sequence[Mapping[str, GeneValue]] = (),
    progress: Progress | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> Study:
    """Find the architectures of `space` that no other beats in all objectives.

    objectives: name -> `minimize(f)` or `maximize(f)`, where f takes one architecture and returns a number.
    constraints: bounds on an objective, or on a function of their own.
    evaluations: how many distinct architectures to evaluate; fewer where the space has no more.
    storage: a SQLite file or an Optuna URL; None keeps everything in memory. The same call on the same storage resumes:
        nothing is evaluated twice, and the result is that of an undisturbed run. A larger `evaluations` continues.
        Values of objectives with a `key` that other searches have stored there are read, not computed (see `recall`).
    warm: begin with the architectures that are known so, beside `evaluations`; else the search finds its own way.
    start: architectures to evaluate first, such as those of `nas.ladder`; the algorithm goes on from them.
    progress: called after every evaluation with (done, evaluations, study).
    workers: how many processes evaluate at a time; None: one, this one, or as many as the cluster has CPUs.
    ray: the address of a Ray cluster that they run on, "auto" for the one that this machine belongs to. The result is
        the same in any case; objectives must depend on the architecture alone and change nothing that they share.

    Errors: an objective without a direction, unknown names, a `start` that is not of the space, a storage of another
    search, no finite value at all.

    >>> study = nas.search(space, {"params": nas.minimize(lambda a: cost(a).params)}, evaluations=4)
    >>> len(study)
    4
    """
    check_least(1, evaluations=evaluations)
    check_least(0, seed=seed)
    check_workers(workers, ray)
    chosen = starting_from(load_algorithm(algorithm), space, start)
    problem = make_problem(space, objectives, constraints)
    past = recall(storage, space, problem.objectives, name)
    problem = replace(problem, objectives=past.remembering(problem.objectives))
    study, known, begun = Study(space, problem), 0, 0
    if storage is not None:
        store = open_store(storage, name, space, problem, fingerprint_of(space, problem, _identity(chosen), seed))
        study, known, begun = _stored(space, problem, store, past if warm else None)
    evaluations, known = evaluations + begun, max(known, begun)
    with Workers(problem, workers, ray) as staff:
        while len(study) < evaluations:
            # A batch is asked for with what was known at its start, so that half a batch resumes as the same batch.
            asked = _ask(study, chosen, known, seed)[: evaluations - known]
            done = set(study.architectures)
            left = {place: a for place, a in enumerate(asked) if a not in done}
            for place, evaluation in staff.evaluate(left):
                study.add(evaluation, Asked(known, place))
                if progress is not None:
                    progress(len(study) - begun, evaluations - begun, study)
            if known == len(study):
                break  # nothing is left
            known = len(study)
    if all(e.failed for e in study.evaluations):
        raise NoFiniteValue(
            f"none of {len(study)} architectures gave a finite value for {', '.join(missing(study.evaluations))}; "
            "look at what one of them gives before the search goes on"
        )
    return study


def _stored(space: GeneSpace, problem: Problem, store: Store, past: Recall | None) -> tuple[Study, int, int]:
    """The study as it was left; how much was known when its last batch was asked for; how many nets it began with."""
    damaged = store.damaged()
    again = sorted(evaluate(problem, [net for _, net in damaged]), key=itemgetter(0))
    for (asked, _), (_, evaluation) in zip(damaged, again, strict=True):
        store.add(evaluation, asked)
    seen = store.load()
    study, begun_with = Study(space, problem, seen, store), past.begin(store.study) if past else []
    study.dropped = len(damaged) + (past.damaged if past else 0)
    study.begin_with([result for _, result in sorted(evaluate(problem, begun_with), key=itemgetter(0))])
    return study, seen[-1][0].after if seen else 0, len(begun_with)


def _ask(study: Study, algorithm: Algorithm, known: int, seed: int) -> list[Architecture]:
    """The batch that the algorithm asks for after `known` evaluations: none of them, and none twice."""
    rng = np.random.default_rng([seed, known])
    asked = algorithm.ask(study.space, study.evaluations[:known], algorithm.batch, rng)
    evaluated = set(study.architectures[:known])
    return [a for a in dict.fromkeys(asked) if a not in evaluated]


def _identity(algorithm: Algorithm) -> str:
    """Its name and parameters, the same in every process."""
    return repr(algorithm) if is_dataclass(algorithm) else algorithm.name
