"""Regularised evolution (Real et al., 2019): tournaments among the young, for any number of objectives."""

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
class Evolution:
    """The winner of a random tournament among the last `population` evaluations has one decision changed.

    The best of a tournament is of its first front, feasible nets before others. The first population has
    both ends of the space and sizes between. tournament: how many compete.
    """

    population: int = 30
    tournament: int = 10
    batch: int = 5
    name: str = "evolution"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        seen = {e.architecture for e in evaluations}
        young = [e for e in evaluations[-self.population :] if not e.failed]
        asked: dict[Architecture, None] = {}
        grown = len(evaluations) >= self.population and len(young) > 1
        if not grown:
            asked.update(dict.fromkeys(unseen_designs(space, seen, n, rng)))
        for _ in range(TRIES_EACH * n if grown else 0):
            if len(asked) >= n:
                break
            chosen = rng.choice(len(young), min(self.tournament, len(young)), replace=False)
            winner = fittest_evaluations([young[i] for i in chosen], 1, rng)[0]
            child = space.mutate(winner.architecture, rng, rate=0.0)
            if child not in seen:
                asked[child] = None
        found = list(asked)[:n]
        return found + unseen(space, seen.union(found), n - len(found), rng)


ALGORITHM = Evolution()
