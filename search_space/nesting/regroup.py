"""Genes that move no shape but share the same units out otherwise: the number of heads at a fixed width."""

from .mask import Pair, gap
from .nets import Run, run

Shape = tuple[int, ...]


def regrouped(pair: Pair, small: Run) -> bool:
    """Whether two nets with the same parameters run the same operators but split the units of a layer otherwise."""
    large = run(pair.large, pair.values, pair.inputs)
    if gap(small, large) < pair.tolerance or small.trace.names != large.trace.names:
        return False
    splits = zip(small.trace.splits, large.trace.splits, strict=True)
    return any(a[0] == b[0] and a[1] != b[1] and _is_width(a[2], _split(a[0], a[1], b[1])) for a, b in splits)


def _is_width(width: int, sizes: Shape) -> bool:
    """Whether one of the sizes is that of the layer before, or of its chunks (a fused qkv has three)."""
    return any(width in (n, 2 * n, 3 * n) for n in sizes)


def _split(before: Shape, after: Shape, other: Shape) -> Shape:
    """The sizes of the dimensions that two changes of a shape treat otherwise."""
    ends = [0, 0]
    for side, step in ((0, 1), (1, -1)):
        for sizes in zip(before[::step], after[::step], other[::step], strict=False):
            if len(set(sizes)) > 1:
                break
            ends[side] += 1
    return before[ends[0] : len(before) - ends[1]]
