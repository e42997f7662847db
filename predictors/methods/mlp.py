"""Five small neural networks, each fitted without another fifth of the points."""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..method import BOTH, Scale, folds
from ..table import Array, Table

FEW = 200
"""Below, L-BFGS and weight decay fit better than Adam with a tenth of the points held back to stop early."""


@dataclass(frozen=True)
class Networks:
    """hidden: sizes of the hidden layers. HAT's (Wang et al. 2020) has three of 400, for 2,000 points."""

    hidden: tuple[int, ...] = (64, 64)
    members: int = 5
    name: ClassVar[str] = "mlp-ensemble"
    scales: ClassVar[frozenset[Scale]] = BOTH
    knows_distance: ClassVar[bool] = True

    def fit(self, table: Table, target: Array) -> "FittedNetworks":
        x, models, errors = table.matrix, [], []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for seed, (fitted, out) in enumerate(folds(len(target), self.members)):
                models.append(self._network(seed, len(fitted)).fit(x[fitted], target[fitted]))
                errors.append(models[-1].predict(x[out]) - target[out])
        return FittedNetworks(models, float(np.sqrt(np.mean(np.concatenate(errors) ** 2))))

    def _network(self, seed: int, n: int) -> Any:
        how: dict[str, Any] = {"solver": "lbfgs", "alpha": 0.01, "max_iter": 200}
        if n >= FEW:
            how = {"learning_rate_init": 3e-3, "alpha": 1e-3, "early_stopping": True, "max_iter": 400}
        network = MLPRegressor(hidden_layer_sizes=self.hidden, random_state=seed, **how)
        return TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())


@dataclass(frozen=True)
class FittedNetworks:
    """error: root mean square at the points that a member was not fitted to."""

    models: list[Any]
    error: float

    def predict(self, table: Table) -> tuple[Array, Array]:
        members = np.array([model.predict(table.matrix) for model in self.models])
        return members.mean(axis=0), np.hypot(members.std(axis=0), self.error)


METHOD = Networks()
