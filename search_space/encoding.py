"""Architectures as vectors of fixed length, for predictors."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture, GeneValue
from .gene_space import GeneSpace
from .trial import Gene


def columns(space: GeneSpace) -> list[str]:
    """Names of the columns of `encode`: a nested gene has one (`width`), an alternative one each (`mixer=softmax`)."""
    return [name for gene in space.genes.values() for name in _names(gene)]


def encode(space: GeneSpace, architectures: Iterable[Architecture]) -> NDArray[np.float64]:
    """Matrix (architectures, columns). Numbers are scaled to (0, 1] by their top, alternatives are one-hot.

    A gene that an architecture does not have is masked: all its columns are 0, which no option of it ever is.
    """
    rows = [[x for gene in space.genes.values() for x in _values(gene, a)] for a in architectures]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns(space)))


def _names(gene: Gene) -> list[str]:
    return [gene.name] if gene.nested else [f"{gene.name}={option}" for option in gene.options]


def _values(gene: Gene, architecture: Architecture) -> list[float]:
    absent = gene.name not in architecture
    value = architecture.get(gene.name)
    if not gene.nested:
        return [float(not absent and option == value) for option in gene.options]
    return [0.0 if absent else _scaled(gene, value)]


def _scaled(gene: Gene, value: GeneValue) -> float:
    low, top = float(gene.options[0] or 0), float(gene.options[-1] or 0)
    if low > 0:  # sizes: keep their ratio
        return float(value or 0) / top
    return (gene.options.index(value) + 1) / len(gene.options)
