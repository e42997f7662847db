"""Architectures as rows of integers, so that thousands can be bred and scored at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture, GeneValue
from .gene_space import GeneSpace
from .trial import Gene, position

Rows = NDArray[np.int64]
"""(architectures, genes): the index of each gene's option; `ABSENT` where the architecture has no such gene."""
ABSENT = -1


class Codes:
    """Translates between the architectures of a space and rows of integers.

    sizes: (genes,) options of each gene. nested: (genes,) whether its options are in order (see `trial.Gene`).
    """

    def __init__(self, space: GeneSpace) -> None:
        self.space = space
        self.genes: list[Gene] = list(space.genes.values())
        self.sizes = np.array([len(g.options) for g in self.genes], dtype=np.int64)
        self.nested = np.array([g.nested for g in self.genes], dtype=bool)
        column = {g.name: i for i, g in enumerate(self.genes)}
        self._index = [{o: i for i, o in enumerate(g.options)} for g in self.genes]
        self._plain = [len(index) == len(g.options) for index, g in zip(self._index, self.genes, strict=True)]
        self._rules = [
            (column[name], column[controller], np.array([o in allowed for o in space.genes[controller].options]))
            for name in space.genes
            for controller, allowed in space.conditions.get(name, {}).items()
        ]

    def rows(self, architectures: Sequence[Architecture]) -> Rows:
        """The codes of the architectures, one a row."""
        found = np.full((len(architectures), len(self.genes)), ABSENT, dtype=np.int64)
        for i, gene in enumerate(self.genes):
            index, name = self._index[i], gene.name
            if self._plain[i]:
                found[:, i] = [index[a[name]] if name in a else ABSENT for a in architectures]
            else:  # True and 1 are two options
                found[:, i] = [position(gene, a[name]) if name in a else ABSENT for a in architectures]
        return found

    def canonical(self, rows: Rows) -> Rows:
        """The rows without the genes that do not exist beside the others.

        Where the space has to run its function to know that, the rows as they are: `architecture` will tell.
        """
        found = rows.copy()
        for gene, controller, allowed in self._rules:
            # the index -1 of an absent controller picks some option; the second factor corrects that
            found[~(allowed[found[:, controller]] & (found[:, controller] >= 0)), gene] = ABSENT
        return found

    def architecture(self, row: Rows, rng: np.random.Generator) -> Architecture:
        """The architecture of one row; a gene that exists and that the row lacks is drawn. It may break a
        requirement of the space."""
        column = {g.name: i for i, g in enumerate(self.genes)}

        def choose(gene: Gene) -> GeneValue:
            at = row[column[gene.name]]
            value = self.genes[column[gene.name]].options[at] if at >= 0 else None
            known = at >= 0 and value in gene.options
            return value if known else gene.options[int(rng.integers(len(gene.options)))]

        return self.space.walk(choose)
