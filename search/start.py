"""Searches that begin with given architectures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import unknown
from ..files import read_json, write_json
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.gene_space import GeneSpace
from .algorithms import Algorithm
from .evaluation import Evaluation

START = "start.json"
"""In a run folder: the architectures that its searches begin with."""


@dataclass(frozen=True)
class Started:
    """An algorithm that asks for these architectures first."""

    algorithm: Algorithm
    first: tuple[Architecture, ...]

    @property
    def name(self) -> str:
        return self.algorithm.name

    @property
    def batch(self) -> int:
        return self.algorithm.batch

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        seen = {e.architecture for e in evaluations}
        first = [net for net in self.first if net not in seen]
        return first or self.algorithm.ask(space, evaluations, n, rng)


def starting_from(algorithm: Algorithm, space: GeneSpace, start: Sequence[Mapping[str, GeneValue]]) -> Algorithm:
    """The algorithm itself where there is nothing to start from. Error: an architecture that is not of the space."""
    first = tuple(dict.fromkeys(_completed(space, net) for net in start))
    return Started(algorithm, first) if first else algorithm


def _completed(space: GeneSpace, net: Mapping[str, GeneValue]) -> Architecture:
    """With the genes that the space has beside (quantization) at their top."""
    if odd := [name for name in net if name not in space.genes]:
        raise unknown("gene in start:", odd[0], space.genes)
    return space.architecture(space.walk(lambda gene: net.get(gene.name, gene.top)))


def write_start(folder: Path, start: Sequence[Mapping[str, GeneValue]]) -> Path:
    """Have the searches of a run begin with these architectures."""
    return write_json(folder / START, {"architectures": [dict(net) for net in start]})


def read_start(folder: Path | None) -> tuple[Mapping[str, GeneValue], ...]:
    """What the searches of a run begin with; nothing, where it does not say. Error: a damaged file."""
    if folder is None or not (folder / START).exists():
        return ()
    return tuple(read_json(folder / START, "the start of a search")["architectures"])
