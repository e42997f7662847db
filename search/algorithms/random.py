"""Random search: the baseline that every algorithm must beat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.gene_space import GeneSpace
from ..draws import unseen
from ..evaluation import Evaluation


@dataclass(frozen=True)
class RandomSearch:
    """Independent draws, none twice (Li and Talwalkar, 2019: "Random search and reproducibility for NAS")."""

    batch: int = 20
    name: str = "random"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        return unseen(space, {e.architecture for e in evaluations}, n, rng)


ALGORITHM = RandomSearch()
