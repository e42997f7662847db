"""A Gaussian process over genes: learns which genes matter and how much pairs do, and predicts thousands at once."""

from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from ...predictors.pairs import JITTER, learn, noisy_root
from ...search_space.codes import Rows
from .features import Array, Features, Hot

LEARNT_FROM = 150
"""Points that the variances are learnt from; more would take longer than they are worth."""


class Surrogate:
    """One number of architectures, fitted to what was evaluated.

    hot: (n, options), see `Features.hot`. values: (n,), any scale.
    """

    def __init__(self, features: Features, hot: Hot, values: Array, rng: np.random.Generator) -> None:
        self.features = features
        self._middle, self._scale = float(values.mean()), max(float(values.std()), 1e-12)
        self._centre: Array = hot.mean(axis=0, dtype=np.float64)
        target = (values - self._middle) / self._scale
        self._phi = self._features(hot)
        some = rng.permutation(len(hot))[:LEARNT_FROM]
        self.prior = learn(self._phi[some], target[some], features.blocks)
        self._cholesky = noisy_root(self.prior.kernel(self._phi, self._phi), self.prior.noise)
        self._alpha: Array = cho_solve((self._cholesky, True), target, check_finite=False)

    @property
    def noise_variance(self) -> float:
        """Of what no feature explains, in the unit of the values."""
        return self.prior.noise * self._scale**2

    def _features(self, hot: Hot) -> Array:
        result: Array = (hot.astype(np.float64) - self._centre) @ self.features.map
        return result

    @cached_property
    def _collapsed(self) -> tuple[Hot, Hot, Hot]:
        """The mean as a quadratic form of the centred options, u b + u Q u: its cost does not grow with the data."""
        p, to = self.prior, self.features.map
        line = to @ (p.single * (self._phi.T @ self._alpha))
        double = self._phi * p.double
        square = (to) @ ((double * self._alpha[:, None]).T @ double) @ (to).T * p.pairs
        return line.astype(np.float32), square.astype(np.float32), self._centre.astype(np.float32)

    def mean(self, hot: Hot) -> Array:
        """(n,) expected values."""
        line, square, centre = self._collapsed
        u = hot - centre
        return np.asarray(u @ line + ((u @ square) * u).sum(axis=1), dtype=np.float64) * self._scale + self._middle

    def flips(self, hot: Hot, current: Rows) -> Array:
        """(n, options): by how much the mean changes when a gene takes that option instead of its current one.

        current: (n, genes) column of `hot` of each gene's option. What other genes come or go with it is not seen.
        """
        line, square, centre = self._collapsed
        own = np.diag(square)
        slope = line + 2 * ((hot - centre) @ square)
        now = current[:, self.features.gene]
        change = slope + own - np.take_along_axis(slope - own, now, axis=1) - 2 * square[now, np.arange(len(own))]
        return np.asarray(change, dtype=np.float64) * self._scale

    def covariance(self, hot: Hot) -> Array:
        """(n, n) of the values of these architectures, without noise; positive definite."""
        phi = self._features(hot)
        explained = solve_triangular(self._cholesky, self.prior.kernel(self._phi, phi), lower=True, check_finite=False)
        before = self.prior.kernel(phi, phi)
        jitter = JITTER * max(1e-3, float(np.trace(before)) / len(before))
        result: Array = (before - explained.T @ explained + jitter * np.eye(len(before))) * self._scale**2
        return result
