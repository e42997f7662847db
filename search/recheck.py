"""What a storage says of the nets of the front is evaluated again before it is believed."""

from collections.abc import Mapping, Sequence
from math import isclose

from ..search_space.architecture import Architecture
from .calls import numbers
from .evaluation import Evaluation
from .objectives import Objective
from .study import Study

TOLERANCE = 1e-4
"""Relative: other libraries and processors add in another order."""


def recheck(study: Study, objectives: Mapping[str, Objective]) -> int:
    """Evaluate the stored nets of the front again, until all that it is of has been computed here.

    objectives: as those of the study, which may read what is stored. An evaluation that differs is replaced in the
    study. Returns how many did.
    """
    checked: set[Architecture] = set()
    wrong = 0
    while doubtful := [e for e in study.front_evaluations() if e.architecture in study.read - checked]:
        nets = [e.architecture for e in doubtful]
        checked.update(nets)
        for stored, metrics in zip(doubtful, _metrics(objectives, nets), strict=True):
            fresh = study.problem.judge(stored.architecture, {**stored.metrics, **metrics})
            if not _agree(stored, fresh):
                study.replace(fresh)
                wrong += 1
    return wrong


def _metrics(objectives: Mapping[str, Objective], nets: Sequence[Architecture]) -> list[dict[str, float]]:
    values = zip(*(numbers(name, o, nets) for name, o in objectives.items()), strict=True)
    return [dict(zip(objectives, of_net, strict=True)) for of_net in values]


def _agree(stored: Evaluation, fresh: Evaluation) -> bool:
    return all(isclose(stored.metrics[name], value, rel_tol=TOLERANCE) for name, value in fresh.metrics.items())
