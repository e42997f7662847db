"""The grey box: what the roofline leaves unexplained, learnt from nets that were measured.

A Gaussian process on the log residual, over what the roofline itself says of a net: the shares of its time by kind of
operator, and how much, how large and how many its kernels are. It falls back to the roofline far from its data.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from .operators import KINDS
from .priors import Rates
from .roofline import Table, parts

Array = NDArray[np.float64]
FEWEST = 30
"""Nets below which a residual is noise."""
MOST = 1000
"""Nets that the process holds: its cost grows with their cube."""
LARGEST = 0.6
"""Log residuals are cut here, so that one net which runs unlike all others does not bend the rest."""


@dataclass(frozen=True)
class Residual:
    """A Gaussian process as its hyper-parameters and data: it is fitted again where it is needed, in closed form."""

    amplitude: float
    length: float
    noise: float
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    inputs: tuple[tuple[float, ...], ...]
    targets: tuple[float, ...]

    def predict(self, features: Array) -> Array:
        """Log residual for each row of features (nets, columns)."""
        found: Array = _process(self).predict((features - np.array(self.centre)) / np.array(self.scale))
        return found


def features(table: Table, rates: Rates) -> Array:
    """(nets, columns): root shares of time by kind; log FLOPs, bytes, FLOPs a kernel, kernels, largest; intensity."""
    compute, memory, launch = parts(table, rates, "rates")
    time = compute + memory + launch
    whole = np.add.reduceat(time, table.starts)
    shares = [np.add.reduceat(np.where(table.kind == k, time, 0.0), table.starts) / whole for k in range(len(KINDS))]
    flops, moved, launches = (
        np.maximum(np.add.reduceat(v, table.starts), 1.0) for v in (table.flops, table.bytes, table.launches)
    )
    dense = np.where(np.isin(table.kind, (0, 1)), time, 0.0)
    intensity = np.log((table.flops + 1) / (table.bytes + 1))
    mean = np.add.reduceat(dense * intensity, table.starts) / np.maximum(np.add.reduceat(dense, table.starts), 1e-30)
    largest = np.maximum.reduceat(table.bytes / table.launches, table.starts)
    logs = [flops, moved, flops / launches, launches, np.maximum(largest, 1.0)]
    return np.stack([*np.sqrt(shares), *map(np.log, logs), mean], axis=1)


def fit_residual(inputs: Array, residuals: Array, like: Residual | None = None) -> Residual:
    """The process fitted to log residuals; with the hyper-parameters of `like`, where there is one."""
    step = -(-len(residuals) // MOST)
    inputs, targets = inputs[::step], np.clip(residuals[::step], -LARGEST, LARGEST)
    centre, scale = inputs.mean(0), np.maximum(inputs.std(0), 1e-6)
    if like is None:
        kernel = ConstantKernel(0.05, (1e-5, 2)) * Matern(3.0, (0.3, 100), nu=1.5) + WhiteKernel(0.01, (1e-5, 0.3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that is reached says: nothing to learn
            some = slice(None, None, -(-len(targets) // 300))
            found = GaussianProcessRegressor(kernel).fit((inputs[some] - centre) / scale, targets[some]).kernel_
        amplitude, length, noise = (float(v) for v in np.exp(found.theta))
    else:
        amplitude, length, noise = like.amplitude, like.length, like.noise
    rows = tuple(tuple(map(float, row)) for row in inputs)
    return Residual(amplitude, length, noise, tuple(centre), tuple(scale), rows, tuple(map(float, targets)))


@lru_cache(maxsize=64)
def _process(residual: Residual) -> GaussianProcessRegressor:
    kernel = ConstantKernel(residual.amplitude) * Matern(residual.length, nu=1.5) + WhiteKernel(residual.noise)
    inputs = (np.array(residual.inputs) - np.array(residual.centre)) / np.array(residual.scale)
    return GaussianProcessRegressor(kernel, optimizer=None).fit(inputs, np.array(residual.targets))
