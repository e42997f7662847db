"""What a predictor sees of architectures: the genes as the space encodes them, and columns of one's own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, unknown
from ..hw_profiles.cost.operators import KINDS, Cost, Total
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.encoding import columns, encode
from ..search_space.gene_space import GeneSpace

Array = NDArray[np.float64]
Extra = Callable[[Architecture], Mapping[str, float]]
"""Numbers from 0 on that say more of an architecture than its genes: costs, a roofline's latency. The same names for
every architecture, what matters most first."""


@dataclass(frozen=True)
class Table:
    """Architectures as numbers, one a row.

    genes: (architectures, gene columns), in [0, 1], a gene that is absent being 0 (`search_space.encoding`).
    extras: (architectures, extra columns), 0 or more, in their own units.
    """

    gene_names: tuple[str, ...]
    extra_names: tuple[str, ...]
    genes: Array
    extras: Array

    def __len__(self) -> int:
        return len(self.genes)

    @property
    def matrix(self) -> Array:
        """(architectures, all columns): genes, and log(1 + x) of the extras, which span orders of magnitude."""
        return np.hstack([self.genes, np.log1p(self.extras)])

    def rows(self, index: NDArray[np.intp]) -> "Table":
        return Table(self.gene_names, self.extra_names, self.genes[index], self.extras[index])


@dataclass(frozen=True)
class Features:
    """How architectures of a space become a table."""

    space: GeneSpace
    extra: Extra | None = None

    def table(self, architectures: Iterable[Mapping[str, GeneValue]]) -> Table:
        """The table of the architectures. Errors: one that is not of this space; an extra that is no number from 0."""
        members = [self._member(a) for a in architectures]
        genes = encode(self.space, members)
        extras = [_numbers(self.extra(a)) for a in members] if self.extra else []
        names = tuple(extras[0]) if extras else ()
        for row in extras:
            if tuple(row) != names:
                raise UserError(f"extra columns must be the same for all architectures: {list(names)}, {list(row)}")
        values = np.array([list(row.values()) for row in extras], dtype=np.float64)
        return Table(tuple(columns(self.space)), names, genes, values.reshape(len(members), len(names)))

    def _member(self, genes: Mapping[str, GeneValue]) -> Architecture:
        """An `Architecture` is taken to be canonical if the space knows its genes; any other mapping is checked."""
        if not isinstance(genes, Architecture):
            return self.space.architecture(genes)
        for name in genes:
            if name not in self.space.genes:
                raise unknown("gene", name, self.space.genes)
        return genes


def cost_columns(cost: Cost) -> dict[str, float]:
    """A cost as extra columns: kernels, bytes and FLOPs in all, then those of each kind."""
    sums = cost.by_kind()
    rows: Sequence[tuple[str, Total]] = [("all", cost.total), *((kind, sums.get(kind, Total())) for kind in KINDS)]
    return {
        f"{name}.{unit}": float(value)
        for name, t in rows
        for unit, value in (("kernels", t.kernels), ("bytes", t.bytes), ("flops", t.flops))
    }


def path_columns(graph: "nx.DiGraph[int]") -> dict[str, float]:
    """A net's graph (`nas.graph_of`) as extra columns: kernels, bytes and FLOPs of the way from the inputs to the
    outputs that has most of them. Nets of the same operators in another wiring differ in nothing else that is here."""
    nodes = {node: graph.nodes[node] for node in nx.topological_sort(graph)}
    units: Mapping[str, Mapping[int, float]] = {
        "kernels": {node: at["kind"] not in ("input", "output") for node, at in nodes.items()},
        "bytes": {node: at["bytes_read"] + at["bytes_written"] for node, at in nodes.items()},
        "flops": {node: at["flops"] for node, at in nodes.items()},
    }
    return {f"path.{unit}": float(_heaviest(graph, weights)) for unit, weights in units.items()}


def _heaviest(graph: "nx.DiGraph[int]", weights: Mapping[int, float]) -> float:
    """Sum over the heaviest path to the last node. weights: of each node, in topological order."""
    total: dict[int, float] = {}
    for node, own in weights.items():
        total[node] = own + max((total[maker] for maker in graph.pred[node]), default=0)
    return total[max(total)]


def _numbers(row: Mapping[str, float]) -> Mapping[str, float]:
    for name, value in row.items():
        if not 0 <= value < np.inf:
            raise UserError(f"extra column {name!r} must be a finite number from 0 on, not {value!r}")
    return row
