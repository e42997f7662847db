"""What the nets of a front have in common, gene by gene, and how it changes from the fastest to the slowest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...search_space.architecture import Architecture, GeneValue
from ...search_space.trial import Gene
from .glyphs import shown

ABSENT = "absent"


@dataclass(frozen=True)
class Marginal:
    """One gene along the front.

    along: its value in every net of the front, the fastest first; None is an option of its own, so `present` says
        which of them have the gene at all.
    """

    gene: Gene
    along: tuple[GeneValue, ...]
    present: tuple[bool, ...]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """(value as text, number of nets), the most frequent first; equals in the order of the front."""
        return Counter(self._texts(0, len(self.along))).most_common()

    @property
    def most(self) -> tuple[str, int]:
        """The most frequent value and in how many nets it is."""
        return self.counts[0]

    @property
    def shift(self) -> tuple[str, str]:
        """The most frequent value among the faster and among the slower half of the nets."""
        half = (len(self.along) + 1) // 2
        faster, slower = Counter(self._texts(0, half)), Counter(self._texts(len(self.along) - half, len(self.along)))
        return faster.most_common(1)[0][0], slower.most_common(1)[0][0]

    def _texts(self, start: int, end: int) -> list[str]:
        return [shown(v) if p else ABSENT for v, p in zip(self.along[start:end], self.present[start:end], strict=True)]


def marginals(genes: Mapping[str, Gene], front: Sequence[Architecture]) -> list[Marginal]:
    """One for each gene with a choice that some net of `front` (the fastest first) has; in the space's order."""
    return [
        Marginal(gene, tuple(a.get(name) for a in front), tuple(name in a for a in front))
        for name, gene in genes.items()
        if len(gene.options) > 1 and any(name in a for a in front)
    ]
