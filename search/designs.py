"""First architectures to evaluate: spread from the smallest to the largest."""

import numpy as np

from ..search_space.codes import Codes, Rows

SPREAD = 0.5


def stratified(codes: Codes, n: int, rng: np.random.Generator) -> Rows:
    """Shape (n, genes). Independent draws of many genes all cost about the same; these cover the range.

    Each row has a size between 0 and 1, one in each n-th of that range. Nested genes scatter about it, in some rows
    more than in others; alternatives are drawn.
    """
    size = ((rng.permutation(n) + rng.random(n)) / max(1, n))[:, None]
    scatter = SPREAD * rng.random((n, 1)) * rng.standard_normal((n, len(codes.sizes)))
    level = np.where(codes.nested, size + scatter, rng.random((n, len(codes.sizes))))
    return np.minimum(np.floor(np.clip(level, 0, 1) * codes.sizes).astype(np.int64), codes.sizes - 1)
