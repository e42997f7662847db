"""What a surrogate sees of architectures: options one-hot, sizes as lines, and sums over layers that are alike."""

import numpy as np
from numpy.typing import NDArray

from ...search_space.codes import Codes, Rows
from ...search_space.paths import kind_of

Array = NDArray[np.float64]
Hot = NDArray[np.float32]


class Features:
    """Linear maps of the one-hot options, in blocks that matter together or not at all.

    A gene has a block of its options and, if nested, one of its size. Genes that differ in their first number alone
    (`layers.0.ffn`, `layers.1.ffn`) have the same over all layers: how many layers take an option, the sum of sizes.
    An absent gene adds nothing anywhere.

    map: (options, features). blocks: (features,) number of the block. gene: (options,) gene of each option.
    """

    def __init__(self, codes: Codes) -> None:
        self.starts = np.cumsum(codes.sizes) - codes.sizes
        self.gene = np.repeat(np.arange(len(codes.sizes)), codes.sizes)
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, gene in enumerate(codes.genes):
            groups.setdefault((kind_of(gene.name, 1), gene.options), []).append(i)
        alike = [members for members in groups.values() if len(members) > 1]
        parts = [
            part for members in ([[i] for i in range(len(codes.genes))] + alike) for part in self._of(codes, members)
        ]
        self.map: Array = np.hstack(parts)
        self.blocks = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])

    def _of(self, codes: Codes, members: list[int]) -> list[Array]:
        """The blocks of one gene, or of several that are alike."""
        n, nested = int(codes.sizes[members[0]]), bool(codes.nested[members[0]])
        each = np.zeros((len(self.gene), n))
        for member in members:
            each[self.starts[member] + np.arange(n), np.arange(n)] = len(members) ** -0.5
        line = each @ (np.arange(1, n + 1)[:, None] / n)
        return ([each] if n > 2 or not nested else []) + ([line] if nested else [])

    def hot(self, rows: Rows) -> Hot:
        """(architectures, options): 1 where the architecture has the gene and the option."""
        result = np.zeros((len(rows), len(self.gene)), dtype=np.float32)
        row, gene = np.nonzero(rows >= 0)
        result[row, rows[row, gene] + self.starts[gene]] = 1
        return result
