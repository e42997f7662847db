"""Gradient-boosted trees on histograms (scikit-learn's, after LightGBM)."""

from dataclasses import dataclass
from typing import ClassVar

from sklearn.ensemble import HistGradientBoostingRegressor

from ..method import BOTH, Constant, Scale, left_out_rms
from ..table import Array, Table


@dataclass(frozen=True)
class Boosting:
    """Small steps; a leaf holds a twentieth of the points, 2 to 20."""

    trees: int = 100
    rate: float = 0.1
    name: ClassVar[str] = "boosting"
    scales: ClassVar[frozenset[Scale]] = BOTH
    knows_distance: ClassVar[bool] = False

    def fit(self, table: Table, target: Array) -> Constant:
        leaf = min(20, max(2, len(target) // 20))
        model = HistGradientBoostingRegressor(
            max_iter=self.trees, learning_rate=self.rate, min_samples_leaf=leaf, early_stopping=False, random_state=0
        )
        return Constant(model.fit(table.matrix, target), left_out_rms(model, table.matrix, target))


METHOD = Boosting()
