"""Random search that covers the sizes: the baseline where independent draws of many genes are all alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.gene_space import GeneSpace
from ..draws import unseen
from ..evaluation import Evaluation
from ..guide.designs import unseen_designs


@dataclass(frozen=True)
class Stratified:
    """Every batch covers the range from the smallest to the largest net, alternatives drawn at random."""

    batch: int = 20
    name: str = "stratified"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        seen = {e.architecture for e in evaluations}
        asked = unseen_designs(space, seen, n, rng)
        return asked + unseen(space, seen.union(asked), n - len(asked), rng)


ALGORITHM = Stratified()
