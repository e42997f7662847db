"""First architectures to evaluate: spread from the smallest to the largest."""

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.codes import Codes, Rows
from ...search_space.gene_space import GeneSpace

SPREAD = 0.3
"""Of the sizes within a net, which are nearly the same everywhere: breeding and surrogates find mixtures of large and
small parts; a net that is as good as its weakest part is rarely found among them."""


def unseen_designs(space: GeneSpace, seen: set[Architecture], n: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to `n` members of `space` that are not in `seen`: its two ends where nothing was seen, then sizes between."""
    codes = Codes(space)
    ends = [] if seen else [space.largest, space.smallest]
    drawn = [codes.architecture(row, rng) for row in stratified(codes, n, rng)]
    return [a for a in dict.fromkeys([*ends, *drawn]) if a not in seen and space.allows(a)][:n]


def stratified(codes: Codes, n: int, rng: np.random.Generator) -> Rows:
    """Shape (n, genes). Independent draws of many genes all cost about the same; these cover the range.

    Each row has a size between 0 and 1, one in each n-th of that range. Nested genes scatter about it, in some rows
    more than in others, by `SPREAD` of the range at most (standard deviation); alternatives are drawn.
    """
    size = ((rng.permutation(n) + rng.random(n)) / max(1, n))[:, None]
    scatter = SPREAD * rng.random((n, 1)) * rng.standard_normal((n, len(codes.sizes)))
    level = np.where(codes.nested, size + scatter, rng.random((n, len(codes.sizes))))
    return np.minimum(np.floor(np.clip(level, 0, 1) * codes.sizes).astype(np.int64), codes.sizes - 1)
