"""A forest of randomised trees (Breiman 2001); the trees' disagreement is its uncertainty."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from ..method import BOTH, Scale
from ..table import Array, Table


@dataclass(frozen=True)
class Forest:
    """kind: "random" splits at the best of all thresholds of some columns, "extra" at random ones (smoother)."""

    kind: Literal["random", "extra"] = "random"
    trees: int = 100
    name: ClassVar[str] = "forest"
    scales: ClassVar[frozenset[Scale]] = BOTH
    knows_distance: ClassVar[bool] = False  # far away, every tree says what its last leaf says

    def fit(self, table: Table, target: Array) -> "FittedForest":
        make = RandomForestRegressor if self.kind == "random" else ExtraTreesRegressor
        model = make(self.trees, max_features=0.5, bootstrap=True, random_state=0)
        return FittedForest(model.fit(table.matrix, target))


@dataclass(frozen=True)
class FittedForest:
    model: Any

    def predict(self, table: Table) -> tuple[Array, Array]:
        trees = np.array([tree.predict(table.matrix) for tree in self.model.estimators_])
        return trees.mean(axis=0), trees.std(axis=0)


METHOD = Forest()
