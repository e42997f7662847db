"""Random search that covers the sizes: the baseline where independent draws of many genes are all alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.codes import Codes
from ...search_space.gene_space import GeneSpace
from ..designs import stratified
from ..draws import unseen
from ..evaluation import Evaluation


@dataclass(frozen=True)
class Stratified:
    """Every batch covers the range from the smallest to the largest net, alternatives drawn at random."""

    batch: int = 20
    name: str = "stratified"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        codes, seen = Codes(space), {e.architecture for e in evaluations}
        ends = [] if evaluations else [space.largest, space.smallest]
        drawn = [codes.architecture(row, rng) for row in stratified(codes, n, rng)]
        asked = [a for a in dict.fromkeys([*ends, *drawn]) if a not in seen and space.allows(a)][:n]
        return asked + unseen(space, seen.union(asked), n - len(asked), rng)


ALGORITHM = Stratified()
