"""Architectures that were not seen yet, drawn at random."""

from collections.abc import Collection
from itertools import islice

import numpy as np

from ..search_space.architecture import Architecture
from ..search_space.gene_space import ENUMERABLE, GeneSpace

TRIES_EACH = 20


def unseen(space: GeneSpace, seen: Collection[Architecture], n: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to `n` distinct random members of `space` that are not in `seen`; fewer only where the space has no more.

    When draws mostly hit what is known, the space is nearly exhausted: what is left is listed and drawn from.
    """
    results: dict[Architecture, None] = {}
    for _ in range(TRIES_EACH * n):
        if len(results) == n:
            break
        candidate = space.sample(rng)
        if candidate not in seen:
            results[candidate] = None
    missing = n - len(results)
    if missing > 0:
        left = [a for a in islice(space.enumerate(), ENUMERABLE) if a not in seen and a not in results]
        results.update((left[i], None) for i in rng.permutation(len(left))[:missing])
    return list(results)
