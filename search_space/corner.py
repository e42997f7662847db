"""The leading corner of a tensor, axis by axis: the only slicing code of the project."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import prod
from typing import Any

import torch
from torch import Tensor

from .layout import Layout, segments_of


@dataclass(frozen=True)
class Corner:
    """Where a smaller parameter lies in a larger one.

    axes: the larger tensor's factors of all dimensions; kept: how many entries of each axis stay; shape: of the smaller
    parameter. segments: for each dimension how many axes each of its segments has; empty where none has several.
    """

    axes: tuple[int, ...]
    kept: tuple[int, ...]
    shape: tuple[int, ...]
    segments: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        counts = self.segments or ((len(self.axes),),)
        object.__setattr__(self, "_boxes", tuple(_boxes(self.axes, self.kept, counts)))
        object.__setattr__(self, "_inner", tuple(_boxes(self.kept, self.kept, counts)))

    @property
    def whole(self) -> bool:
        """Whether nothing is cut away."""
        return self.kept == self.axes

    @property
    def plain(self) -> bool:
        """Whether the corner is the larger tensor itself, dimension by dimension."""
        return self.whole and self.axes == self.shape

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """The sizes of the corner's views."""
        return [sizes for sizes, _, _ in self._boxes]  # type: ignore[attr-defined]

    def views(self, full: Tensor) -> list[Tensor]:
        """The corner of a contiguous tensor as views with a dimension for each axis: writing to them writes to `full`.

        There is one view, or one for every combination of segments.
        """
        return _views(full, self._boxes)  # type: ignore[attr-defined]

    def shared(self, full: Tensor) -> Tensor:
        """The smaller parameter in the memory of `full`; a copy where its rows do not lie at equal distances there."""
        views = self.views(full)
        try:
            return views[0].view(self.shape) if len(views) == 1 else self.of(full)
        except RuntimeError:  # torch has no other way to say that strides do not allow it
            return self.of(full)

    def of(self, full: Tensor) -> Tensor:
        """The smaller parameter as a contiguous copy."""
        small = full.new_empty(self.shape)
        for target, view in zip(_views(small, self._inner), self.views(full), strict=True):  # type: ignore[attr-defined]
            target.copy_(view)
        return small

    def write(self, small: Tensor, full: Tensor) -> None:
        """Write a value of the smaller parameter into the corner of `full`."""
        sources = _views(small.contiguous(), self._inner)  # type: ignore[attr-defined]
        for view, source in zip(self.views(full), sources, strict=True):
            view.copy_(source)


_Box = tuple[tuple[int, ...], tuple[int, ...], int]
"""Sizes, strides and offset of one view."""


def _views(tensor: Tensor, boxes: Sequence[_Box]) -> list[Tensor]:
    start = tensor.storage_offset()
    return [tensor.as_strided(sizes, strides, start + offset) for sizes, strides, offset in boxes]


def _boxes(axes: Sequence[int], kept: Sequence[int], segments: Sequence[Sequence[int]]) -> Iterator[_Box]:
    """Every combination of one segment of each dimension."""
    lines: list[list[_Box]] = []
    step, end = 1, len(axes)
    for counts in reversed(segments):
        begin = end - sum(counts)
        line, length = _line(axes[begin:end], kept[begin:end], counts, step)
        lines.append(line)
        step, end = step * length, begin
    for parts in product(*reversed(lines)):
        yield tuple(chain(*(p[0] for p in parts))), tuple(chain(*(p[1] for p in parts))), sum(p[2] for p in parts)


def _line(axes: Sequence[int], kept: Sequence[int], counts: Sequence[int], step: int) -> tuple[list[_Box], int]:
    """The segments of one dimension, whose entries lie `step` apart; and its length."""
    boxes, offset, begin = [], 0, 0
    for count in counts:
        factors = axes[begin : begin + count]
        strides = tuple(step * prod(factors[i + 1 :]) for i in range(count))
        boxes.append((tuple(kept[begin : begin + count]), strides, step * offset))
        offset, begin = offset + prod(factors), begin + count
    return boxes, offset


def cut(fulls: Sequence[Tensor], corners: Sequence[Corner]) -> list[Tensor]:
    """The corners of `fulls` in their plain shapes; differentiable, by one node of the autograd graph for all.

    They are contiguous: a subnet inside the supernet and the same subnet extracted run the same kernels.
    """
    parts = [i for i, corner in enumerate(corners) if not corner.whole]
    cuts: tuple[Tensor, ...] = _Cut.apply([corners[i] for i in parts], *(fulls[i] for i in parts)) if parts else ()  # type: ignore[no-untyped-call]
    result = list(fulls)
    for i, part in zip(parts, cuts, strict=True):
        # Without gradients the cut is no parameter any more, and torch's GRU chooses its kernel by that.
        result[i] = part.detach().requires_grad_(fulls[i].requires_grad) if part.is_leaf else part
    return result


class _Cut(torch.autograd.Function):
    """All corners of a subnet at once: slices would be a node for each axis of each tensor."""

    @staticmethod
    def forward(ctx: Any, corners: Sequence[Corner], *fulls: Tensor) -> tuple[Tensor, ...]:
        ctx.corners, ctx.shapes = corners, [full.shape for full in fulls]
        return tuple(corner.of(full) for corner, full in zip(corners, fulls, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        spread: list[Tensor | None] = [None]
        for corner, shape, gradient in zip(ctx.corners, ctx.shapes, gradients, strict=True):
            full = gradient.new_zeros(shape)
            corner.write(gradient, full)
            spread.append(full)
        return tuple(spread)


def corner(layout: Layout, full: Layout) -> Corner:
    """The corner with `layout` of a tensor with layout `full`."""
    kept, axes = [[segments_of(dim) for dim in each] for each in (layout, full)]
    counts = tuple(tuple(map(len, dim)) for dim in axes)
    return Corner(
        tuple(chain(*chain(*axes))),
        tuple(chain(*chain(*kept))),
        tuple(sum(map(prod, dim)) for dim in kept),
        counts if any(len(dim) > 1 for dim in counts) else (),
    )


def fits(small: Layout, full: Layout) -> bool:
    """Whether `small` is a corner of `full`: the same segments of the same axes, none longer."""
    a, b = [[segments_of(dim) for dim in each] for each in (small, full)]
    same = [tuple(map(len, dim)) for dim in a] == [tuple(map(len, dim)) for dim in b]
    return same and all(x <= y for x, y in zip(chain(*chain(*a)), chain(*chain(*b)), strict=True))
