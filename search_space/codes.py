"""Architectures as rows of integers, so that thousands can be bred and scored at once."""

from collections.abc import Sequence
from typing import cast

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
        self._index: list[dict[object, int]] = [{o: i for i, o in enumerate(g.options)} for g in self.genes]
        self._plain = all(len(index) == len(g.options) for index, g in zip(self._index, self.genes, strict=True))
        self._rules = [
            (column[name], column[controller], np.array([o in allowed for o in space.genes[controller].options]))
            for name in space.genes
            for controller, allowed in space.conditions.get(name, {}).items()
        ]

    def rows(self, architectures: Sequence[Architecture]) -> Rows:
        """The codes of the architectures, one a row."""
        names, missing = [g.name for g in self.genes], object()
        columns = zip(*(a.select(names, missing) for a in architectures), strict=True)
        results = [self._column(i, values, missing) for i, values in enumerate(columns)]
        return np.array(results, dtype=np.int64).reshape(len(names), len(architectures)).T

    def _column(self, gene: int, values: Sequence[object], missing: object) -> list[int]:
        if self._plain:
            index = {**self._index[gene], missing: ABSENT}
            return [index[v] for v in values]
        # True and 1 are two options, and the same key
        return [ABSENT if v is missing else position(self.genes[gene], cast(GeneValue, v)) for v in values]

    def canonical(self, rows: Rows) -> Rows:
        """The rows without the genes that do not exist beside the others.

        Where the space has to run its function to know that, the rows as they are: `architecture` will tell.
        """
        result = rows.copy()
        for gene, controller, allowed in self._rules:
            # the index -1 of an absent controller picks some option; the second factor corrects that
            result[~(allowed[result[:, controller]] & (result[:, controller] >= 0)), gene] = ABSENT
        return result

    def architecture(self, row: Rows, rng: np.random.Generator) -> Architecture:
        """The architecture of one row; a gene that exists and that the row lacks is drawn. It may break a
        requirement of the space."""
        column = {g.name: i for i, g in enumerate(self.genes)}

        def choose(gene: Gene) -> GeneValue:
            at = row[column[gene.name]]
            value = self.genes[column[gene.name]].options[at] if at >= 0 else None
            valid = at >= 0 and value in gene.options
            return value if valid else gene.options[int(rng.integers(len(gene.options)))]

        return self.space.walk(choose)
