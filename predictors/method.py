"""The contract of a method of regression, and what several methods share."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold

from .table import Array, Table

Scale = Literal["log", "linear"]
"""log: a positive quantity (latency, energy, memory), whose errors are relative; linear: any number (accuracy)."""


class Regressor(Protocol):
    """A method, fitted."""

    def predict(self, table: Table) -> tuple[Array, Array]:
        """Mean and standard deviation of the target (its logarithm where the scale is log), one a row."""
        ...


@runtime_checkable
class Method(Protocol):
    """The settings of a way to regress: a frozen dataclass whose fields are numbers, strings, or tuples of them.

    A file of `methods/` defines one as `METHOD`; the contract test finds it there.
    Fitting is deterministic: it draws from generators of its own with fixed seeds.
    """

    name: ClassVar[str]
    scales: ClassVar[frozenset[Scale]]
    """Where it can be used."""
    knows_distance: ClassVar[bool]
    """Whether its standard deviation grows away from what it was fitted to; else it is that of an average net."""

    def fit(self, table: Table, target: Array) -> Regressor: ...


BOTH: frozenset[Scale] = frozenset({"log", "linear"})


@dataclass(frozen=True)
class Constant:
    """A scikit-learn estimator whose errors are taken to be alike everywhere."""

    estimator: Any
    std: float

    def predict(self, table: Table) -> tuple[Array, Array]:
        return self.estimator.predict(table.matrix), np.full(len(table), self.std)


def folds(n: int, most: int = 5) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """(fitted, left out) indices: `most` folds, fewer where the points are few."""
    return list(KFold(min(most, n), shuffle=True, random_state=0).split(np.arange(n)))


def left_out_rms(estimator: Any, x: Array, target: Array) -> float:
    """Root mean square of the errors at points that were left out."""
    errors = [
        clone(estimator).fit(x[fitted], target[fitted]).predict(x[out]) - target[out]
        for fitted, out in folds(len(target))
    ]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
