"""The search loop: ask, evaluate, store; from the start or from where a killed search stopped."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

from ..errors import UserError
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from .algorithms import Algorithm, load_algorithm
from .objectives import Constraint
from .problem import make_problem
from .recall import recall
from .storage import fingerprint_of, open_store
from .study import Study

Progress = Callable[[int, int, Study], None]


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
    progress: Progress | None = None,
) -> Study:
    """Find the architectures of `space` that no other beats in all objectives.

    objectives: name -> `minimize(f)` or `maximize(f)`, where f takes one architecture and returns a number.
    constraints: bounds on an objective, or on a function of their own.
    evaluations: how many distinct architectures to evaluate; fewer where the space has no more.
    storage: a SQLite file or an Optuna URL; None keeps everything in memory. The same call on the same storage resumes:
        nothing is evaluated twice, and the result is that of an undisturbed run. A larger `evaluations` continues.
        Another search on it begins with what is known of objectives with a `key` (see `recall`), beside `evaluations`.
    progress: called after every evaluation with (done, evaluations, study).

    Errors: an objective without a direction, unknown names, a storage of another search, no finite value at all.
    """
    if evaluations < 1 or seed < 0:
        raise UserError(f"evaluations={evaluations} and seed={seed} cannot be; at least 1 and at least 0 are right")
    problem, chosen = make_problem(space, objectives, constraints), load_algorithm(algorithm)
    known, begun_with = recall(storage, space, problem.objectives, name), list[Architecture]()
    problem = replace(problem, objectives=known.remembering(problem.objectives))
    if storage is None:
        study, asked_after = Study(space, problem), 0
    else:
        store = open_store(storage, name, space, problem, fingerprint_of(space, problem, _identity(chosen), seed))
        seen, asked_after = store.load()
        study, begun_with = Study(space, problem, seen, store), known.begin(store.study)
        evaluated = set(study.architectures)
        for evaluation in problem.evaluate([a for a in begun_with if a not in evaluated]):
            study.add(evaluation, 0)
    evaluations, asked_after = evaluations + len(begun_with), max(asked_after, len(begun_with))
    while len(study) < evaluations:
        # A batch is asked for with what was known at its start, so that half a batch resumes as the same batch.
        asked = _ask(study, chosen, asked_after, seed)[: evaluations - len(study)]
        for evaluation in problem.evaluate(asked):
            study.add(evaluation, asked_after)
            if progress is not None:
                progress(len(study) - len(begun_with), evaluations - len(begun_with), study)
        if asked_after == len(study):
            break  # nothing is left
        asked_after = len(study)
    if all(e.failed for e in study.evaluations):
        raise UserError(f"none of {len(study)} architectures gave a finite value for {', '.join(problem.metrics)}")
    return study


def _ask(study: Study, algorithm: Algorithm, known: int, seed: int) -> list[Architecture]:
    """What the algorithm asks for after `known` evaluations, without what is evaluated by now."""
    rng = np.random.default_rng([seed, known])
    asked = algorithm.ask(study.space, study.evaluations[:known], algorithm.batch, rng)
    evaluated = set(study.architectures)
    return [a for a in dict.fromkeys(asked) if a not in evaluated]


def _identity(algorithm: Algorithm) -> str:
    """Its name and parameters, the same in every process."""
    return repr(algorithm) if is_dataclass(algorithm) else algorithm.name
