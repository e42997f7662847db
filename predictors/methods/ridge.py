"""Ridge regression on the columns, or on their squares and pairwise products where those do better."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ..method import BOTH, Scale
from ..table import Array, Table

ALPHAS = tuple(np.logspace(-3, 4, 15).tolist())


@dataclass(frozen=True)
class Ridge:
    """Penalty and degree are those of the lowest leave-one-out error."""

    degrees: tuple[int, ...] = (1, 2)
    alphas: tuple[float, ...] = ALPHAS
    name: ClassVar[str] = "ridge"
    scales: ClassVar[frozenset[Scale]] = BOTH
    knows_distance: ClassVar[bool] = True

    def fit(self, table: Table, target: Array) -> "FittedRidge":
        results = [_fit(degree, self.alphas, table.matrix, target) for degree in self.degrees]
        return max(results, key=lambda fitted: float(fitted.ridge.best_score_))


@dataclass(frozen=True)
class FittedRidge:
    """noise: standard deviation that the leverage of a net multiplies; vectors, values: singular, of the features."""

    transform: Any
    ridge: Any
    vectors: Array
    values: Array
    noise: float

    def predict(self, table: Table) -> tuple[Array, Array]:
        x = self.transform.transform(table.matrix)
        leverage = _leverage(x, self.vectors, self.values, self.ridge.alpha_)
        return self.ridge.predict(x), self.noise * np.sqrt(1 + leverage)


def _fit(degree: int, alphas: tuple[float, ...], matrix: Array, target: Array) -> FittedRidge:
    transform = make_pipeline(StandardScaler(), PolynomialFeatures(degree, include_bias=False), StandardScaler())
    x = transform.fit_transform(matrix)
    ridge = RidgeCV(alphas).fit(x, target)
    _, values, vectors = np.linalg.svd(x, full_matrices=False)
    own = _leverage(x, vectors, values, ridge.alpha_)
    left_out = 1 / np.maximum(1 - own, 1e-3)  # 1 + leverage of a net on a fit without it
    return FittedRidge(transform, ridge, vectors, values, float(np.sqrt(-ridge.best_score_ / left_out.mean())))


def _leverage(x: Array, vectors: Array, values: Array, alpha: float) -> Array:
    """x (X'X + alpha)^-1 x' of each row x, for features X of these singular vectors and values."""
    seen = x @ vectors.T
    unseen = np.maximum((x**2).sum(axis=1) - (seen**2).sum(axis=1), 0)  # in directions without any data
    result: Array = (seen**2 / (values**2 + alpha)).sum(axis=1) + unseen / alpha
    return result


METHOD = Ridge()
