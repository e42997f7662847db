"""A Gaussian process: a linear trend, a smooth deviation from it (Matern 5/2) and noise.

Alternatives are one-hot and absent genes 0, so the kernel measures how many decisions differ, and numbers by how much.
"""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..method import BOTH, Scale
from ..table import Array, Table


@dataclass(frozen=True)
class GaussianProcess:
    """most: points that it is fitted to, drawn at random from more, for the time grows with their cube.

    ard: a length scale for each column.
    """

    most: int = 400
    ard: bool = False
    name: ClassVar[str] = "gaussian-process"
    scales: ClassVar[frozenset[Scale]] = BOTH
    knows_distance: ClassVar[bool] = True

    def fit(self, table: Table, target: Array) -> "FittedProcess":
        some = np.random.default_rng(0).permutation(len(target))[: self.most]
        p = table.matrix.shape[1]
        length = np.full(p, p**0.5) if self.ard else p**0.5
        smooth = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(length, (0.1, 1e3), nu=2.5)
        trend = ConstantKernel(1.0 / p, (1e-5, 1e2)) * DotProduct(1.0, "fixed")
        kernel = smooth + trend + WhiteKernel(0.01, (1e-6, 1.0))
        model = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is an answer, too
            return FittedProcess(model.fit(table.matrix[some], target[some]))


@dataclass(frozen=True)
class FittedProcess:
    model: Any

    def predict(self, table: Table) -> tuple[Array, Array]:
        mean, std = self.model.predict(table.matrix, return_std=True)
        return mean, std


METHOD = GaussianProcess()
