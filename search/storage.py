"""Evaluations in an Optuna study: a search resumes from it, and optuna-dashboard opens it."""

import hashlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from errno import EIO
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ..errors import UserError
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from ..search_space.trial import Gene
from .database import DAMAGE, cause_of, optuna_storage, readable, unusable
from .evaluation import Asked, Evaluation
from .objectives import Objective
from .problem import Problem

FINGERPRINT, ARCHITECTURE, ASKED_AFTER, PLACE = "nas", "architecture", "asked_after", "place"
CHECKSUM, PLACED = "checksum", "placed"
"""Checksums of a trial: over all that is read of it; over its architecture and when that was asked for."""
CHECKED = "checked"
"""Of a study: its trials have checksums, which those of older ones have not."""
FINISHED = (TrialState.COMPLETE, TrialState.FAIL)


class Store:
    """The evaluations of one search in an Optuna study.

    Every evaluation is one trial, written in one transaction: a killed search leaves whole trials only.
    """

    def __init__(self, study: optuna.Study, space: GeneSpace, problem: Problem) -> None:
        self.study = study
        self._space = space
        self._problem = problem
        self._distributions = {name: distribution(gene) for name, gene in space.genes.items()}

    def load(self) -> list[tuple[Asked, Evaluation]]:
        """The evaluations in the order in which they were asked for. The trials are in that in which they finished."""
        return [(_asked(trial), self._read(trial)) for trial in self._trials()]

    def times(self) -> list[datetime]:
        """When each evaluation of `load` was stored (local time), in the same order."""
        return [trial.datetime_complete or datetime.now() for trial in self._trials()]

    def damaged(self) -> list[tuple[Asked, Architecture]]:
        """What was stored and has changed since: `load` leaves it out until it has been evaluated and stored again.

        Error: one of which the architecture, or when it was asked for, has changed.
        """
        kept = {trial.user_attrs[ARCHITECTURE] for trial in self._trials()}
        lost: dict[str, tuple[Asked, Architecture]] = {}
        for trial in finished(self.study):
            if not is_intact(self.study, trial):
                if not is_placed(trial):
                    raise unusable(f"study {self.study.study_name!r}", f"trial {trial.number} has changed")
                lost[trial.user_attrs[ARCHITECTURE]] = _asked(trial), self._net(trial)
        return sorted((pair for i, pair in lost.items() if i not in kept), key=lambda pair: pair[0])

    def _trials(self) -> list[FrozenTrial]:
        """One of each architecture: the first that is intact."""
        kept: dict[str, FrozenTrial] = {}
        for trial in finished(self.study):
            if is_intact(self.study, trial):
                kept.setdefault(trial.user_attrs[ARCHITECTURE], trial)
        return sorted(kept.values(), key=_asked)

    def add(self, evaluation: Evaluation, asked: Asked) -> None:
        """Write one evaluation. A failed one is a failed trial: Optuna knows no NaN values."""
        values = [evaluation.metrics[name] for name in self._problem.objectives]
        extra = evaluation.metrics.keys() - ({} if evaluation.failed else self._problem.objectives.keys())
        trial = optuna.trial.create_trial(
            state=TrialState.FAIL if evaluation.failed else TrialState.COMPLETE,
            values=None if evaluation.failed else values,
            params=dict(evaluation.architecture),
            distributions={name: self._distributions[name] for name in evaluation.architecture},
            user_attrs={ARCHITECTURE: evaluation.architecture.id, ASKED_AFTER: asked.after, PLACE: asked.place}
            | {name: v for name, v in evaluation.metrics.items() if name in extra and not math.isnan(v)},
            # The list is the form that Optuna 4 and 5 both read; `study.best_trials` then respects feasibility.
            system_attrs={} if evaluation.failed else {"constraints": list(evaluation.violations)},
        )
        trial.user_attrs[PLACED] = _placed(trial)
        trial.user_attrs[CHECKSUM] = _checksum(trial)
        self.study.add_trial(trial)

    def _read(self, trial: FrozenTrial) -> Evaluation:
        architecture = self._net(trial)
        values = dict(zip(self._problem.objectives, trial.values or (), strict=False))
        metrics = {n: values.get(n, trial.user_attrs.get(n, math.nan)) for n in self._problem.metrics}
        return self._problem.judge(architecture, metrics)

    def _net(self, trial: FrozenTrial) -> Architecture:
        architecture = self._space.architecture(trial.params)
        if architecture.id != trial.user_attrs[ARCHITECTURE]:
            raise UserError(
                f"trial {trial.number} of study {self.study.study_name!r} is not an architecture of this space"
            )
        return architecture


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Its trials that a `Store` wrote, in the order in which they finished. Error: they cannot be read."""
    written = {ARCHITECTURE, ASKED_AFTER}
    try:
        trials = study.get_trials(deepcopy=False, states=FINISHED)
    except DAMAGE as error:
        raise unusable(f"study {study.study_name!r}", f"its trials cannot be read ({error})") from None
    for trial in trials:
        if (written | {CHECKSUM, PLACED}) & trial.user_attrs.keys() and not written <= trial.user_attrs.keys():
            raise unusable(f"study {study.study_name!r}", f"trial {trial.number} has changed")
    return [t for t in trials if written <= t.user_attrs.keys()]


def is_intact(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether it says what `Store.add` wrote. Trials of a study that is older than checksums are believed."""
    if CHECKSUM not in trial.user_attrs and CHECKED not in study.user_attrs:
        return True
    return bool(trial.user_attrs.get(CHECKSUM) == _checksum(trial))


def is_placed(trial: FrozenTrial) -> bool:
    """Whether its architecture, and when that was asked for, are what `Store.add` wrote."""
    return bool(trial.user_attrs.get(PLACED) == _placed(trial))


def _placed(trial: FrozenTrial) -> str:
    content = [trial.params, *(trial.user_attrs.get(name) for name in (ARCHITECTURE, ASKED_AFTER, PLACE))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checksum(trial: FrozenTrial) -> str:
    """Over genes, values and the rest that is read of a trial."""
    attributes = {name: value for name, value in trial.user_attrs.items() if name != CHECKSUM}
    content = [trial.state.name, trial.params, trial.values, attributes]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _asked(trial: FrozenTrial) -> Asked:
    # What was stored before there were places was evaluated in order.
    return Asked(trial.user_attrs[ASKED_AFTER], trial.user_attrs.get(PLACE, -1))


def open_store(
    storage: str | os.PathLike[str] | None,
    name: str,
    space: GeneSpace,
    problem: Problem,
    fingerprint: Mapping[str, Any],
) -> Store:
    """The study `name` in a SQLite file or at an Optuna URL (None: in memory), made where it does not exist yet.

    Errors: the study belongs to a search with another fingerprint; the storage is no database that can be used.
    """
    with quiet(), readable(storage):
        study = optuna.create_study(
            storage=None if storage is None else optuna_storage(storage),
            study_name=name,
            directions=[o.direction for o in problem.objectives.values()],
            load_if_exists=True,
        )
        stored = study.user_attrs.get(FINGERPRINT)
        if stored is None and not study.get_trials(deepcopy=False):  # new, or killed before its first trial
            study.set_metric_names(list(problem.objectives))
            study.set_user_attr(FINGERPRINT, dict(fingerprint))
            study.set_user_attr(CHECKED, True)
            stored = fingerprint
    if "fidelities" in (stored or {}):
        raise UserError(
            f"study {name!r} in {storage} was made by an older version with fidelities or repeats, some of its values "
            "are estimates; choose another name or storage"
        )
    for key, value in fingerprint.items():
        if stored is None or stored.get(key) != value:
            other = "was not made by this search" if stored is None else f"was made with another {key}"
            raise UserError(
                f"study {name!r} in {storage} {other}; repeat its arguments, or choose another name or storage"
            )
    return Store(study, space, problem)


def fingerprint_of(space: GeneSpace, problem: Problem, algorithm: str, seed: int) -> dict[str, Any]:
    """What must be equal for two searches to be the same search. The code of the objectives cannot be seen."""
    objectives = problem.objectives.items()
    keys = keys_of(problem.objectives)
    repeats = {name: o.repeats for name, o in objectives if o.repeats > 1}
    return (
        ({"keys": keys} if keys else {})
        | ({"repeats": repeats} if repeats else {})
        | {
            "space": space_id(space),
            "objectives": [[name, o.direction] for name, o in objectives],
            "constraints": [[c.name, c.upper, c.lower] for c in problem.constraints],
            "algorithm": algorithm,
            "seed": seed,
        }
    )


def keys_of(objectives: Mapping[str, Objective]) -> dict[str, str]:
    """The keys that are stated, by objective."""
    return {name: o.key for name, o in objectives.items() if o.key is not None}


def space_id(space: GeneSpace) -> str:
    """Equal for two spaces with the same genes."""
    genes = [[gene.name, list(gene.options)] for gene in space.genes.values()]
    description = json.dumps([genes, space.smallest.id, space.largest.id])
    return hashlib.sha256(description.encode()).hexdigest()[:16]


def distribution(gene: Gene) -> BaseDistribution:
    """Even integers steps as an integer range (a numeric axis in the dashboard), anything else as categories.

    Both give back exactly the value that was stored.
    """
    options: Sequence[Any] = gene.options
    if gene.nested and len(options) > 1 and all(isinstance(o, int) for o in options):
        step = options[1] - options[0]
        if list(options) == list(range(options[0], options[-1] + 1, step)):
            return IntDistribution(options[0], options[-1], step=step)
    return CategoricalDistribution(options)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its greetings and its notes on experimental features; the user's own settings come back after."""
    logger = logging.getLogger("optuna")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        logger.setLevel(max(level, logging.WARNING))
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def disk_errors(storage: str | os.PathLike[str] | None) -> Iterator[None]:
    """A database that cannot be read or written is an OSError, as any other file."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise OSError(EIO, cause_of(error), str(storage)) from error
