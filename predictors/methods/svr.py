"""Support vector regression with a Gaussian kernel, as LINAS uses it beside ridge (Cummings et al. 2022)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR as Machine

from ..method import BOTH, Constant, Scale, folds, left_out_rms
from ..table import Array, Table

ENOUGH = 400
"""Points on which the settings are chosen; all are fitted to."""


@dataclass(frozen=True)
class SVR:
    """C and the kernel's width by cross-validation of the absolute error (relative, where the scale is log).

    widths: gamma of the kernel, in units of 1 / columns. epsilon is 0.
    """

    c: tuple[float, ...] = (1.0, 10.0, 100.0)
    widths: tuple[float, ...] = (0.1, 0.3, 1.0)
    name: ClassVar[str] = "svr"
    scales: ClassVar[frozenset[Scale]] = BOTH
    knows_distance: ClassVar[bool] = False

    def fit(self, table: Table, target: Array) -> Constant:
        x = table.matrix
        machine = make_pipeline(StandardScaler(), Machine(epsilon=0.0, cache_size=500))
        model = TransformedTargetRegressor(machine, transformer=StandardScaler())
        gammas = [width / x.shape[1] for width in self.widths]
        grid = {"regressor__svr__C": list(self.c), "regressor__svr__gamma": gammas}
        some = np.random.default_rng(0).permutation(len(x))[:ENOUGH]
        search = GridSearchCV(model, grid, scoring="neg_mean_absolute_error", cv=folds(len(some)), refit=False)
        best = model.set_params(**search.fit(x[some], target[some]).best_params_)
        std = left_out_rms(best, x[some], target[some])
        return Constant(best.fit(x, target), std)


METHOD = SVR()
