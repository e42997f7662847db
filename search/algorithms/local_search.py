"""Local search on the Pareto set: one decision changed of one net of the front."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.gene_space import GeneSpace
from ..draws import unseen
from ..evaluation import Evaluation
from ..guide.designs import unseen_designs
from ..select import fittest_evaluations

TRIES_EACH = 20


@dataclass(frozen=True)
class LocalSearch:
    """White, Nolen and Savani (2021: "Exploring the loss landscape in NAS") on fronts: neighbours of the front, drawn.

    The first batches hold both ends of the space and sizes between.
    front: how many nets of it have neighbours, the least crowded first.
    """

    batch: int = 10
    front: int = 20
    name: str = "local-search"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        seen = {e.architecture for e in evaluations}
        parents = fittest_evaluations(evaluations, self.front, rng, front_only=True)
        asked: dict[Architecture, None] = {}
        if len(seen) < self.front:
            asked.update(dict.fromkeys(unseen_designs(space, seen, n, rng)))
        for _ in range(TRIES_EACH * n if len(seen) > 1 and parents else 0):
            if len(asked) >= n:
                break
            child = space.mutate(parents[int(rng.integers(len(parents)))].architecture, rng, rate=0.0)
            if child not in seen:
                asked[child] = None
        found = list(asked)[:n]
        return found + unseen(space, seen.union(found), n - len(found), rng)


ALGORITHM = LocalSearch()
