"""A Gaussian process over genes: learns which genes matter and how much pairs do, and predicts thousands at once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri

from ..search_space.codes import Rows
from .features import Array, Features, Hot

STEPS = 5
"""Rounds of learning the variances."""
LEARNT_FROM = 150
"""Points that the variances are learnt from; more would take longer than they are worth."""
DAMPING = 0.7
JITTER = 1e-5


@dataclass(frozen=True)
class Prior:
    """Kernel k = e1 + pairs e2^2 (+ noise), where e1 and e2 are inner products of weighted features.

    single: (features,) variance of the effect of each feature. double: (features,) its weight in e2: the root of that
    variance, since genes that matter alone are those that matter in pairs, scaled so that e2 is 1 in the mean.
    pairs: variance of the effects of pairs (squares included). noise: of what no feature explains.
    """

    single: Array
    double: Array
    pairs: float
    noise: float

    def kernel(self, a: Array, b: Array) -> Array:
        """(n, k) of features (n, features) and (k, features)."""
        found: Array = (a * self.single) @ b.T + self.pairs * ((a * self.double) @ b.T) ** 2
        return found


def learn(phi: Array, target: Array, blocks: NDArray[np.int64]) -> Prior:
    """The variances of the highest likelihood, one for each block, by MM steps (Zhou, Hu, Qiao, Lange et al., 2019:
    "MM algorithms for variance components models"): each is multiplied by the root of the ratio of what the data show
    of it to what the model expects. float32 is enough here and twice as fast."""
    x, y = phi.astype(np.float32), target.astype(np.float32)
    count = int(blocks.max()) + 1
    spread = np.bincount(blocks, (x**2).mean(axis=0), count)
    weight = np.where(spread > 1e-9, 0.5 / count / np.maximum(spread, 1e-9), 0.0)
    pairs, noise = 0.3, 0.05
    for _ in range(STEPS):
        single = (x * weight[blocks].astype(np.float32)) @ x.T
        root = (x * np.sqrt(weight)[blocks].astype(np.float32)) @ x.T
        square = (root / max(float(np.diag(root).mean()), 1e-12)) ** 2
        inverse = _inverse(single + np.float32(pairs) * square, noise)
        a = inverse @ y
        shown = np.bincount(blocks, (x.T @ a) ** 2, count)
        expected = np.bincount(blocks, (x * (inverse @ x)).sum(axis=0), count)
        weight *= np.where(expected > 1e-12, shown / np.maximum(expected, 1e-12), 0.0) ** DAMPING
        pairs *= max(1e-3, float(a @ square @ a) / float((inverse * square).sum() + 1e-12)) ** DAMPING
        pairs = min(max(pairs, 1e-3), 10.0)
        noise = max(JITTER, noise * (float(a @ a) / float(np.trace(inverse))) ** DAMPING)
    single_of, double = weight[blocks], np.sqrt(weight)[blocks]
    scale = max(float(((phi**2) @ double).mean()), 1e-12)
    return Prior(single_of, double / scale, pairs, noise)


def _inverse(kernel: Hot, noise: float) -> Hot:
    """Of the kernel with noise on its diagonal."""
    full = kernel.astype(np.float64)
    full[np.diag_indices(len(full))] += max(noise, JITTER * np.trace(full) / len(full))
    low, _ = dpotri(dpotrf(full, lower=1)[0], lower=1)
    return np.asarray(np.tril(low) + np.tril(low, -1).T, dtype=np.float32)


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
        kernel = self.prior.kernel(self._phi, self._phi)
        kernel[np.diag_indices(len(kernel))] += max(self.prior.noise, JITTER * np.trace(kernel) / len(kernel))
        self._cholesky = cholesky(kernel, lower=True, check_finite=False)
        self._alpha: Array = cho_solve((self._cholesky, True), target, check_finite=False)

    @property
    def noise_variance(self) -> float:
        """Of what no feature explains, in the unit of the values."""
        return self.prior.noise * self._scale**2

    def _features(self, hot: Hot) -> Array:
        found: Array = (hot.astype(np.float64) - self._centre) @ self.features.map
        return found

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
        known = solve_triangular(self._cholesky, self.prior.kernel(self._phi, phi), lower=True, check_finite=False)
        before = self.prior.kernel(phi, phi)
        jitter = JITTER * max(1e-3, float(np.trace(before)) / len(before))
        found: Array = (before - known.T @ known + jitter * np.eye(len(before))) * self._scale**2
        return found
