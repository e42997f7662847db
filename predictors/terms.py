"""The terms of `methods/products.py`: a constant, columns of a table, and products of its numeric genes."""

from collections.abc import Iterator
from math import log

import numpy as np

from ..search_space.paths import kind_of
from .table import Array, Table

Term = tuple[str, ...]
"""Names of the columns that are multiplied; none: the constant."""
Model = tuple[Term, ...]


class Terms:
    """All terms over the columns of a table, scaled by their means there.

    Genes of layers that are named alike but for a number (`layers.0.ffn`, `layers.1.ffn`) have a sum, too
    (`layers.*.ffn`): it is what a latency adds up, and one term instead of many.
    """

    def __init__(self, table: Table, degree: int) -> None:
        self.degree = degree
        self._sums = _alike(table.gene_names)
        columns = {**self._genes(table), **_extras(table)}
        self._scale = {name: float(values.mean()) for name, values in columns.items() if np.ptp(values) > 0}
        extras = [name for name in _different(_extras(table)) if name in self._scale]
        self._rank: dict[Term, int] = {(name,): rank for rank, name in enumerate(extras, 1)}
        self.genes = [name for name in self._genes(table) if name in self._scale]
        self.first: list[Term] = [*((name,) for name in extras), (), *((name,) for name in self.genes)]

    def grow(self, model: Model) -> Iterator[Model]:
        """The model with one more term: a column, or a term that it has times another gene."""
        terms: list[Term] = list(self.first)
        for term in model:
            if 0 < len(term) < self.degree and term not in self._rank:
                terms += [tuple(sorted((*term, gene))) for gene in self.genes if gene not in term]
        for term in dict.fromkeys(terms):
            if term not in model:
                yield tuple(sorted((*model, term)))

    def length(self, term: Term) -> float:
        """Length of the term's code (nats): 0 for the constant, then the extra columns by rank, then the genes."""
        if not term or term in self._rank:
            return log(1 + self._rank.get(term, 0))
        return log(1 + len(self._rank)) + log(2 * len(self.genes))

    def columns(self, terms: list[Term], table: Table) -> Array:
        """(architectures, terms)."""
        values = {**self._genes(table), **_extras(table)}
        one = np.ones(len(table))
        results = [
            np.prod([values[name] / self._scale[name] for name in term], axis=0) if term else one for term in terms
        ]
        return np.stack(results, axis=1)

    def _genes(self, table: Table) -> dict[str, Array]:
        results = dict(zip(table.gene_names, table.genes.T, strict=True))
        return results | {name: table.genes[:, columns].sum(axis=1) for name, columns in self._sums.items()}


def _alike(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Pattern -> columns of the names that differ in the first number alone."""
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        groups.setdefault(kind_of(name, 1), []).append(column)
    return {name: result for name, result in groups.items() if len(result) > 1}


def _extras(table: Table) -> dict[str, Array]:
    return {f"extra {name}": values for name, values in zip(table.extra_names, table.extras.T, strict=True)}


def _different(columns: dict[str, Array]) -> list[str]:
    """Names of the columns, without those that are a multiple of an earlier one."""
    kept: list[Array] = []
    names = []
    for name, values in columns.items():
        scaled = values / max(float(values.mean()), 1e-30)
        if not any(np.allclose(scaled, other, rtol=1e-6) for other in kept):
            kept.append(scaled)
            names.append(name)
    return names
