"""The result of a search, to be looked at: trials, front, knee, best."""

import math
import os
from bisect import bisect
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray

from ..errors import Infeasible, UserError, unknown
from ..files import write_atomic
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from . import pareto
from .csv_text import csv_of
from .evaluation import Asked, Evaluation
from .problem import Problem
from .storage import Store, open_store, quiet


class Study:
    """All evaluations of a search, in the order in which the algorithm asked for them; signs and units are the user's.

    `nas.search` returns it: `trials()` and `front()` are tables, `best()` and `knee()` rows of them.

    >>> study = nas.search(space, {"params": nas.minimize(lambda a: cost(a).params)}, evaluations=4)
    >>> study.architecture(study.best("params")) == space.smallest
    True
    """

    def __init__(
        self,
        space: GeneSpace,
        problem: Problem,
        seen: Sequence[tuple[Asked, Evaluation]] = (),
        store: Store | None = None,
    ) -> None:
        self.space = space
        self.problem = problem
        self.evaluations: list[Evaluation] = [evaluation for _, evaluation in seen]
        self.times: list[datetime] = store.times() if store is not None else [datetime.now() for _ in seen]
        self._asked = [asked for asked, _ in seen]
        self._store = store
        self.dropped = 0
        self.read = set(self.architectures)

    def __len__(self) -> int:
        return len(self.evaluations)

    def begin_with(self, evaluations: Sequence[Evaluation]) -> None:
        """Know, before all others, what other studies of the storage hold; it is not stored again."""
        begun = min(self.times, default=datetime.now())
        self.evaluations[:0] = evaluations
        self.times[:0] = [begun] * len(evaluations)
        self._asked[:0] = [Asked(0, place) for place in range(len(evaluations))]
        self.read |= {e.architecture for e in evaluations}

    def add(self, evaluation: Evaluation, asked: Asked) -> None:
        """Keep one evaluation in its place, and write it to the storage if there is one."""
        if self._store is not None:
            self._store.add(evaluation, asked)
        at = bisect(self._asked, asked)
        self._asked.insert(at, asked)
        self.evaluations.insert(at, evaluation)
        self.times.insert(at, datetime.now())

    def replace(self, evaluation: Evaluation) -> None:
        """Put another evaluation of the same architecture in the place of the known one; it is not stored."""
        self.evaluations[self.architectures.index(evaluation.architecture)] = evaluation

    # Tables

    def trials(self) -> pd.DataFrame:
        """One row per architecture: number, id, its genes (None where it has no such gene), the metrics, feasible.

        A metric is NaN where the evaluation failed.
        """
        kept = self.evaluations
        columns: dict[str, pd.Series[Any]] = {
            "number": pd.Series(range(len(kept)), dtype="int64"),
            "id": pd.Series([e.architecture.id for e in kept], dtype="str"),
        }
        for name in self.space.genes:
            columns[name] = _gene_column([e.architecture.get(name) for e in kept])
        for name in self.problem.metrics:
            columns[name] = pd.Series([e.metrics[name] for e in kept], dtype="float64")
        columns["feasible"] = pd.Series([e.feasible for e in kept], dtype="bool")
        return pd.DataFrame(columns)

    def front(self) -> pd.DataFrame:
        """The rows of `trials()` that are feasible and not dominated, sorted by the first objective, its best first."""
        return self.trials().iloc[self.front_rows()].reset_index(drop=True)

    def front_rows(self) -> list[int]:
        """The places of the rows of `front()` in `trials()` and `evaluations`."""
        return sorted(self._front(), key=lambda i: (self.evaluations[i].losses, i))

    def front_evaluations(self) -> list[Evaluation]:
        """The rows of `front()` as evaluations: quick enough to ask for while a search runs."""
        return [self.evaluations[i] for i in self.front_rows()]

    def csv(self, path: str | os.PathLike[str]) -> Path:
        """Write `trials()` as CSV, whole or not at all."""
        return write_atomic(path, csv_of(self.trials()))

    # Single answers

    @property
    def architectures(self) -> list[Architecture]:
        return [e.architecture for e in self.evaluations]

    def architecture(self, which: "str | pd.Series[Any] | Mapping[Hashable, Any]") -> Architecture:
        """The architecture of that id, or of that row of `trials()` or `front()`."""
        wanted = which if isinstance(which, str) else str(which["id"])
        by_id = {e.architecture.id: e.architecture for e in self.evaluations}
        if wanted not in by_id:
            raise unknown("architecture", wanted, by_id)
        return by_id[wanted]

    def best(self, objective: str | None = None) -> "pd.Series[Any]":
        """The feasible row that is best in `objective` (default: the first). Of equals, the earliest."""
        names = list(self.problem.objectives)
        if objective is not None and objective not in names:
            raise unknown("objective", objective, names)
        index = names.index(objective or names[0])
        feasible = self._some([i for i, e in enumerate(self.evaluations) if e.feasible])
        return self.trials().iloc[min(feasible, key=lambda i: self.evaluations[i].losses[index])]

    def knee(self) -> "pd.Series[Any]":
        """The row of the front farthest below the line between the front's extremes, objectives scaled to [0, 1]."""
        front = self._some(self._front())
        return self.trials().iloc[front[pareto.knee(self._losses(front))]]

    def hypervolume(self, reference: Mapping[str, float] | Sequence[float] | None = None) -> float:
        """What the front dominates up to `reference`: one value per objective, in the signs of the objectives.

        Default: the worst value of every objective among all evaluations, moved out by a tenth of its range. That moves
        as a study grows: to compare studies, state the reference.
        """
        done = self._losses([i for i, e in enumerate(self.evaluations) if not e.failed])
        if reference is not None:
            corner = self._corner(reference)
        elif len(done):
            corner = done.max(axis=0) + 0.1 * np.ptp(done, axis=0)
        else:
            return 0.0
        return pareto.hypervolume(self._losses(self._front()), corner)

    @property
    def optuna(self) -> optuna.Study:
        """The Optuna study: the stored one (without what other studies hold), or a copy in memory."""
        if self._store is not None:
            return self._store.study
        store = open_store(None, "nas", self.space, self.problem, {})
        with quiet():
            for asked, evaluation in zip(self._asked, self.evaluations, strict=True):
                store.add(evaluation, asked)
        return store.study

    # Inside

    def _front(self) -> list[int]:
        feasible = np.array([i for i, e in enumerate(self.evaluations) if e.feasible], dtype=np.int64)
        return [int(i) for i in feasible[pareto.non_dominated(self._losses(feasible))]]

    def _losses(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        table = [self.evaluations[i].losses for i in rows]
        return np.array(table, dtype=np.float64).reshape(len(table), len(self.problem.objectives))

    def _corner(self, reference: Mapping[str, float] | Sequence[float]) -> NDArray[np.float64]:
        names = self.problem.objectives
        values = [reference.get(n, math.nan) for n in names] if isinstance(reference, Mapping) else list(reference)
        if len(values) != len(names) or not np.isfinite(values).all():
            raise UserError(f"a reference point needs one finite value per objective: {', '.join(names)}")
        return np.array([o.metric.sign * v for o, v in zip(names.values(), values, strict=True)], dtype=np.float64)

    def _some(self, rows: list[int]) -> list[int]:
        if rows:
            return rows
        bounds = ", ".join(
            f"{c.name} {word} {bound:g}"
            for c in self.problem.constraints
            for word, bound in (("at most", c.upper), ("at least", c.lower))
            if bound is not None
        )
        raise Infeasible(f"none of the {len(self)} evaluated architectures keeps every bound ({bounds})")


def _gene_column(values: list[Any]) -> "pd.Series[Any]":
    """Absent genes stay None and numbers stay as they are: pandas would make floats of whole numbers."""
    return pd.Series(values, dtype=object if None in values else None)
