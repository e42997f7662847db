"""The order of a supernet's shared axes: permuted, so that leading corners keep what matters, and put back."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor, nn

from ...search_space.axes import Axis, Member, axes_of, places_of
from ...search_space.inputs import Inputs, call, tensors_in
from ...search_space.layout import segments_of
from ...search_space.paths import group_of, path_of
from ..store import Supernet
from ..tree import home

TOLERANCE = 1e-3
"""Of outputs, relative to the largest of them: sums in another order differ by rounding."""


def sort_axes(supernet: Supernet, orders: Iterable[tuple[Axis, Tensor]]) -> None:
    """Permute axes of the supernet's tensors by `orders` (of their size // unit blocks), which the store remembers.

    The tensors are new ones: those of an adopted model are the model's own.
    """
    moves: dict[str, dict[int, Tensor]] = {}
    for axis, order in orders:
        for member, places in places_of(supernet.layouts, axis, order):
            dims = moves.setdefault(member.parameter, {})
            dims[member.dim] = dims[member.dim][places] if member.dim in dims else places
    for name, dims in (moves | _of_buffers(supernet, moves)).items():
        _permute(supernet, name, dims)
        before = supernet.store.orders.get(name, {})
        lies = {dim: places.argsort() for dim, places in dims.items()}
        now = {dim: lies[dim][before[dim]] if dim in before else lies[dim] for dim in lies}
        supernet.store.orders[name] = {**before, **now}


def unsort(supernet: Supernet) -> None:
    """Put everything back into its first order."""
    for name, dims in supernet.store.orders.items():
        _permute(supernet, name, dims)
    supernet.store.orders.clear()


def _permute(supernet: Supernet, name: str, dims: dict[int, Tensor]) -> None:
    places, local = home(supernet.store, name)
    old = places[local]
    new = old.detach()
    for dim, order in dims.items():
        new = new.index_select(dim, order.to(new.device))
    places[local] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new


def _of_buffers(supernet: Supernet, moves: dict[str, dict[int, Tensor]]) -> dict[str, dict[int, Tensor]]:
    """Running statistics lie as the weight beside them."""
    results: dict[str, dict[int, Tensor]] = {}
    for name, buffer in supernet.shared.items():
        beside = [n for n in moves if n.rpartition(".")[0] == name.rpartition(".")[0]]
        like = [n for n in beside if supernet.layouts[n] == buffer.layout]
        results |= {name: moves[like[0]]} if like else {}
    return results


def sortable_axes(supernet: Supernet, example: Inputs) -> list[Axis]:
    """The axes that may be permuted, each layer's by itself where one gene moves several layers.

    Those at other sizes than the supernet's tensors are left out, and what an earlier gene moves is its. Permuting them
    all must leave the outputs of the largest net, else layers share what a gene moves (a residual stream), and the axis
    is taken as a whole; a gene whose axes cannot be permuted at all is left out.
    """
    genes: dict[str, list[Axis]] = {}
    taken: set[Member] = set()
    for axis in axes_of(supernet.space, supernet.space.largest):
        if taken.isdisjoint(axis.members) and all(_size(supernet, member) == axis.size for member in axis.members):
            taken |= set(axis.members)
            genes.setdefault(axis.gene, []).append(axis)
    split = {gene: [part for axis in axes for part in _layers(axis)] for gene, axes in genes.items()}
    everything = [axis for axes in split.values() for axis in axes]
    if may_be_permuted(supernet, everything, example):
        return everything
    results: list[Axis] = []
    for gene, axes in genes.items():
        kept = [each for each in (split[gene], axes) if may_be_permuted(supernet, each, example)]
        results += kept[0] if kept else []
    return results


def _size(supernet: Supernet, member: Member) -> int:
    factors = [n for part in segments_of(supernet.layouts[member.parameter][member.dim]) for n in part]
    return factors[member.factor]


def _layers(axis: Axis) -> list[Axis]:
    def layer(member: Member) -> str:
        return str(group_of(path_of(member.parameter)))

    groups = groupby(sorted(axis.members, key=layer), layer)
    return [replace(axis, members=tuple(members)) for _, members in groups]


@torch.no_grad()
def may_be_permuted(supernet: Supernet, axes: Sequence[Axis], example: Inputs) -> bool:
    """Whether the largest net computes the same with these axes permuted, but for rounding."""
    rng = torch.Generator().manual_seed(0)
    net = supernet.extract(supernet.space.largest)
    expected = tensors_in(call(net, example))
    sort_axes(supernet, [(axis, torch.randperm(axis.size // axis.unit, generator=rng)) for axis in axes])
    orders, supernet.store.orders = supernet.store.orders, {}  # the largest net in the order of the others
    try:
        now = tensors_in(call(supernet.extract(supernet.space.largest), example))
    finally:
        supernet.store.orders = orders
        unsort(supernet)
    return all(_close(a, b) for a, b in zip(expected, now, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return torch.equal(a, b)
    return bool((a - b).abs().max() <= TOLERANCE * a.abs().max())
