"""When a gene exists: each conditional gene names its controllers and the values under which it is asked for."""

from collections.abc import Iterable, Mapping
from math import prod

import networkx as nx

from .architecture import GeneValue
from .trial import Gene

Conditions = Mapping[str, Mapping[str, frozenset[GeneValue]]]
"""gene -> controller -> the values of the controller that allow the gene. All must hold; an absent one does not."""


def is_present(name: str, values: Mapping[str, GeneValue], conditions: Conditions) -> bool:
    """Whether gene `name` exists beside `values`, which holds every gene that is asked earlier."""
    return all(
        controller in values and values[controller] in allowed
        for controller, allowed in conditions.get(name, {}).items()
    )


def count(genes: Mapping[str, Gene], conditions: Conditions) -> int:
    """Number of distinct architectures, exactly.

    Genes that no condition joins are independent, so counts of connected parts multiply; within a part one controller
    is decided at a time. Options of a controller that allow the same genes are counted once and multiplied.
    """
    return prod(_count_part(part, genes, conditions) for part in _parts(genes, conditions))


def _parts(names: Iterable[str], conditions: Conditions) -> list[set[str]]:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(names)
    graph.add_edges_from((n, c) for n in list(graph) for c in conditions.get(n, {}) if c in graph)
    return list(nx.connected_components(graph))


def _count_part(part: set[str], genes: Mapping[str, Gene], conditions: Conditions) -> int:
    if len(part) == 1:
        return len(genes[next(iter(part))].options)
    open_controllers = {n: [c for c in conditions.get(n, {}) if c in part] for n in part}
    roots = [n for n in sorted(part) if not open_controllers[n]]
    root = max(roots, key=lambda r: sum(r in controllers for controllers in open_controllers.values()))
    outcomes: dict[frozenset[str], int] = {}
    for option in genes[root].options:
        left = frozenset(_survivors(part - {root}, root, option, conditions))
        outcomes[left] = outcomes.get(left, 0) + 1
    return sum(times * _count_rest(left, root, genes, conditions) for left, times in outcomes.items())


def _survivors(part: set[str], root: str, option: GeneValue, conditions: Conditions) -> set[str]:
    """The genes of `part` that may still exist once `root` has taken `option`."""
    left = {n for n in part if option in conditions.get(n, {}).get(root, (option,))}
    while True:  # whoever needs an absent controller is absent too
        orphans = {n for n in left if any(c in part and c not in left for c in conditions.get(n, {}))}
        if not orphans:
            return left
        left -= orphans


def _count_rest(left: frozenset[str], root: str, genes: Mapping[str, Gene], conditions: Conditions) -> int:
    rest = {n: {c: a for c, a in conditions.get(n, {}).items() if c != root} for n in left}
    return prod(_count_part(part, genes, rest) for part in _parts(left, rest))
