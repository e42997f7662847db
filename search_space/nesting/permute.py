"""The permutation test, for what a mask cannot show: an axis whose units can be exchanged one by one has no order.

The first of its units are then as good as any others, so a smaller net that takes them is a sub-network, whatever is
normalised over the axis.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..axes import Axis, Member, grouped, permute
from ..trial import Gene
from .mask import Pair, gap
from .nets import Net, Run, Values, run

Groups = dict[tuple[int, int], tuple[Member, ...]]


def is_symmetric(pair: Pair, gene: Gene, small: Run) -> bool:
    """Whether both nets compute the same when the units of the gene's axes are exchanged, each with its blocks.

    False as well where there are not several units in both nets, or where no axis has one entry for each unit: blocks
    can be exchanged although their inner borders move.
    """
    counts = [net.architecture[gene.name] for net in (pair.large, pair.small)]
    groups = grouped(pair.large.layouts, pair.small.layouts)
    if not all(isinstance(n, int) and n > 1 for n in counts) or not groups:
        return False
    top, low = (int(n) for n in counts)  # type: ignore[arg-type]
    if any(a % top or a * low != b * top for a, b in groups) or min(size for size, _ in groups) != top:
        return False
    large = run(pair.large, pair.values, pair.inputs)
    if len(large.outputs) != len(small.outputs):
        return False
    carried = [_differing(x, y) for x, y in zip(large.outputs, small.outputs, strict=True)]
    sides = ((pair.large, pair.values, large, top), (pair.small, pair.small_values(), small, low))
    for net, values, seen, units in sides:
        for order in _orders(units):
            after = run(net, _exchanged(net, values, groups, top, order), pair.inputs)
            outputs = [_reordered(x, dims, order) for x, dims in zip(seen.outputs, carried, strict=True)]
            if gap(Run(outputs, seen.trace), after) > pair.tolerance:
                return False
    return True


def _orders(units: int) -> Iterator[Tensor]:
    """Permutations that move every unit: of two units, a random one is as often as not the identity."""
    yield torch.arange(units).roll(1)
    for seed in range(2):
        yield torch.randperm(units, generator=torch.Generator().manual_seed(seed)).roll(1)


def _exchanged(net: Net, values: Values, groups: Groups, top: int, order: Tensor) -> dict[str, Tensor]:
    moved = dict(values)
    for (size, _), members in groups.items():
        axis = Axis("", net.architecture, size, size, size // top, members)
        moved = permute(moved, net.layouts, axis, order)
    return moved


def _differing(large: Tensor, small: Tensor) -> list[int]:
    """The dimensions of an output that carry the axis."""
    return [d for d, (a, b) in enumerate(zip(large.shape, small.shape, strict=False)) if a != b]


def _reordered(output: Tensor, dims: list[int], order: Tensor) -> Tensor:
    for d in dims:
        units, shape = len(order), output.shape
        if shape[d] % units == 0:
            blocks = output.reshape(*shape[:d], units, shape[d] // units, *shape[d + 1 :])
            output = blocks.index_select(d, order).reshape(shape)
    return output
