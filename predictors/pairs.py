"""The core of a Gaussian process over genes: which features matter alone, and how much pairs of them do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.linalg.lapack import dpotrf, dpotri

from .table import Array

Half = NDArray[np.float32]
STEPS = 5
"""Rounds of learning the variances."""
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
        result: Array = (a * self.single) @ b.T + self.pairs * ((a * self.double) @ b.T) ** 2
        return result


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


def _inverse(kernel: Half, noise: float) -> Half:
    """Of the kernel with noise on its diagonal."""
    full = kernel.astype(np.float64)
    full[np.diag_indices(len(full))] += max(noise, JITTER * np.trace(full) / len(full))
    low, _ = dpotri(dpotrf(full, lower=1)[0], lower=1)
    return np.asarray(np.tril(low) + np.tril(low, -1).T, dtype=np.float32)


def noisy_root(kernel: Array, noise: float) -> Array:
    """Cholesky factor (lower) of the kernel with noise, or what keeps it definite, on its diagonal. Changes it."""
    kernel[np.diag_indices(len(kernel))] += max(noise, JITTER * np.trace(kernel) / len(kernel))
    result: Array = cholesky(kernel, lower=True, check_finite=False)
    return result
