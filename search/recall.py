"""What earlier searches of a storage found out: another budget, target or algorithm begins with it.

An objective with a `key` is one and the same number in every study of the storage that states this key for it: the
accuracy of a net with these weights, say, whatever device is asked for. Its values are read, never computed again, and
a new study begins with all architectures that are known so. They do not count as its evaluations, and stay where they
are stored.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import optuna
from optuna.trial import TrialState

from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from .calls import numbers
from .database import optuna_storage, readable
from .objectives import Objective
from .storage import ARCHITECTURE, FINGERPRINT, finished, is_intact, is_placed, keys_of, quiet, space_id

KEYS, BEGUN_WITH = "keys", "recalled"


@dataclass(frozen=True)
class Recall:
    """values: by objective and the architecture's id.
    nets: by id, those of which all keyed objectives are known, and those of which they were until the storage was
    damaged: so many are evaluated again."""

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    nets: Mapping[str, Architecture] = field(default_factory=dict)
    damaged: int = 0

    def remembering(self, objectives: Mapping[str, Objective]) -> dict[str, Objective]:
        """The objectives, with what is known read and the rest computed."""
        return {n: _remembering(n, o, self.values[n]) if self.values.get(n) else o for n, o in objectives.items()}

    def begin(self, study: optuna.Study) -> list[Architecture]:
        """The architectures that the study begins with, settled when it is new: later studies do not change it."""
        if BEGUN_WITH not in study.user_attrs:
            new = not study.get_trials(deepcopy=False)
            study.set_user_attr(BEGUN_WITH, list(self.nets) if new else [])
        return [self.nets[i] for i in study.user_attrs[BEGUN_WITH] if i in self.nets]


def recall(
    storage: str | os.PathLike[str] | None, space: GeneSpace, objectives: Mapping[str, Objective], name: str
) -> Recall:
    """What the studies of `storage`, but the one of that name, know of the keyed objectives."""
    keys = keys_of(objectives)
    if storage is None or not keys:
        return Recall()
    values: dict[str, dict[str, float]] = {objective: {} for objective in keys}
    nets: dict[str, Architecture] = {}
    damaged: set[str] = set()
    for study in _studies(storage, name):
        stored = study.user_attrs.get(FINGERPRINT, {})
        shared = [n for n, key in keys.items() if stored.get(KEYS, {}).get(n) == key]
        if stored.get("space") != space_id(space) or not shared:
            continue
        places = [n for n, _ in stored["objectives"]]
        for trial in finished(study):
            intact = is_intact(study, trial)
            if trial.state != TrialState.COMPLETE or not (intact or is_placed(trial)):
                continue
            architecture = space.architecture(trial.params)
            nets[architecture.id] = architecture
            if not intact:
                damaged.add(architecture.id)
                continue
            for n in shared:
                values[n].setdefault(trial.user_attrs[ARCHITECTURE], (trial.values or [])[places.index(n)])
    known = {i: a for i, a in nets.items() if all(i in of for of in values.values())}
    damaged -= known.keys()
    return Recall(values, known | {i: nets[i] for i in damaged}, len(damaged))


def _studies(storage: str | os.PathLike[str], but: str) -> Iterator[optuna.Study]:
    """In the order in which they were begun."""
    with quiet(), readable(storage):
        opened = optuna_storage(storage)
        result = optuna.get_all_study_summaries(storage=opened, include_best_trial=False)
        for summary in result:
            if summary.study_name != but and FINGERPRINT in summary.user_attrs:
                yield optuna.load_study(study_name=summary.study_name, storage=opened)


def _remembering(name: str, objective: Objective, stored: Mapping[str, float]) -> Objective:
    def function(architectures: Sequence[Architecture]) -> Iterable[float]:
        computed = numbers(name, objective, [a for a in architectures if a.id not in stored])
        for architecture in architectures:
            yield stored[architecture.id] if architecture.id in stored else next(computed)

    return replace(objective, function=function, batched=True, repeats=1)
