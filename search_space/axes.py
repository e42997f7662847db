"""Axes that tensors share, derived: shrink one gene and see which dimensions move."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod

import torch
from torch import Tensor

from .architecture import Architecture, GeneValue
from .layout import Layout, Segments, segments_of
from .probe import Probe, Probed
from .trial import Gene


@dataclass(frozen=True)
class Member:
    """One factor of one dimension of one parameter; the factors of its segments are counted on."""

    parameter: str
    dim: int
    factor: int


@dataclass(frozen=True)
class Axis:
    """Dimensions that move together when `gene` shrinks, in nets like `architecture`.

    size, small: length of the axis with the gene at its top and at the smallest option that leaves no parameter out.
    A dimension that holds `unit` consecutive entries for each step of the gene (head_dim rows for each head) is
    permuted in blocks of `unit`.
    """

    gene: str
    architecture: Architecture
    size: int
    small: int
    unit: int
    members: tuple[Member, ...]


def axes_of(space: Probed, architecture: Architecture | None = None) -> list[Axis]:
    """The shared axes of the space: for each nested gene, the dimensions of parameters that it moves, grouped by size.

    architecture: the net in which genes are at their top; None: for each gene the first that was seen to have it.

    >>> sorted({axis.gene for axis in nas.axes_of(space)})
    ['hidden', 'width']
    """
    first_seen: dict[str, Probe] = {}
    for probe in space.probes if architecture is None else [space.probe(architecture)]:
        for name in probe.genes:
            first_seen.setdefault(name, probe)
    nested = [g for g in space.genes.values() if g.nested and len(g.options) > 1 and g.name in first_seen]
    return [axis for gene in nested for axis in _axes(space, gene, first_seen[gene.name])]


def _axes(space: Probed, gene: Gene, large: Probe) -> Iterator[Axis]:
    """By the smallest option that moves dimensions: one below it leaves the parameters out."""
    known = {probe.architecture: probe for probe in space.probes}
    for option in gene.options[:-1]:
        choices = Architecture({**large.architecture, gene.name: option})
        small = known.get(choices) or space.probe(choices)
        groups = grouped(large.layouts, small.layouts)
        for (size, less), members in groups.items():
            unit = _unit((option, gene.options[-1]), size, less)
            yield Axis(gene.name, large.architecture, size, less, unit, members)
        if groups:
            return


def grouped(large: Mapping[str, Layout], small: Mapping[str, Layout]) -> dict[tuple[int, int], tuple[Member, ...]]:
    """The factors that differ between two nets, by their sizes in both."""
    groups: dict[tuple[int, int], list[Member]] = {}
    for name in large.keys() & small.keys():
        for member, sizes in _moves(name, large[name], small[name]):
            groups.setdefault(sizes, []).append(member)
    return {
        sizes: tuple(sorted(members, key=lambda m: (m.parameter, m.dim, m.factor)))
        for sizes, members in sorted(groups.items())
    }


def _moves(name: str, large: Layout, small: Layout) -> Iterator[tuple[Member, tuple[int, int]]]:
    for dim, (a, b) in enumerate(zip(large, small, strict=False)):
        factors = zip(chain(*segments_of(a)), chain(*segments_of(b)), strict=False)
        for factor, sizes in enumerate(factors):
            if sizes[0] != sizes[1]:
                yield Member(name, dim, factor), sizes


def _unit(options: tuple[GeneValue, GeneValue], size: int, small: int) -> int:
    """Entries for each step of an integer gene that the sizes are proportional to, else 1."""
    low, top = options
    if (
        isinstance(top, int)
        and isinstance(low, int)
        and 0 < low < top
        and size % top == 0
        and size * low == small * top
    ):
        return size // top
    return 1


def permute(
    parameters: Mapping[str, Tensor], layouts: Mapping[str, Layout], axis: Axis, order: Tensor
) -> dict[str, Tensor]:
    """The parameters with every member of `axis` permuted by `order` (a permutation of its size // unit blocks)."""
    result = dict(parameters)
    for m, places in places_of(layouts, axis, order):
        result[m.parameter] = result[m.parameter].index_select(m.dim, places)
    return result


def places_of(layouts: Mapping[str, Layout], axis: Axis, order: Tensor) -> Iterator[tuple[Member, Tensor]]:
    """For every member, where the entries of its whole dimension come from when the axis is permuted by `order`."""
    entries = (order.unsqueeze(1) * axis.unit + torch.arange(axis.unit)).flatten()
    for m in axis.members:
        yield m, _places(segments_of(layouts[m.parameter][m.dim]), m.factor, entries)


def _places(segments: Segments, factor: int, entries: Tensor) -> Tensor:
    """The entries of a dimension, with one factor's permuted."""
    places, start, passed = [], 0, 0
    for factors in segments:
        part = torch.arange(start, start + prod(factors)).reshape(factors)
        if passed <= factor < passed + len(factors):
            part = part.index_select(factor - passed, entries)
        places.append(part.flatten())
        start, passed = start + part.numel(), passed + len(factors)
    return torch.cat(places)
