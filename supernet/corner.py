"""The leading corner of a tensor, axis by axis: the only slicing code of the project."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from math import prod
from operator import mul
from typing import Any

import torch
from torch import Tensor

from ..search_space.layout import Layout


@dataclass(frozen=True)
class Corner:
    """Where a smaller parameter lies in a larger one.

    axes: the larger tensor's factors of all dimensions; kept: how many entries of each axis stay; shape: of the smaller
    parameter.
    """

    axes: tuple[int, ...]
    kept: tuple[int, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        strides = [1, *accumulate(reversed(self.axes[1:]), mul)] if self.axes else []
        object.__setattr__(self, "_strides", tuple(reversed(strides)))

    @property
    def whole(self) -> bool:
        """Whether nothing is cut away."""
        return self.kept == self.axes

    def view(self, full: Tensor) -> Tensor:
        """The corner of a contiguous tensor as a view, one dimension for each axis: writing to it writes to `full`."""
        return full.as_strided(self.kept, self._strides, full.storage_offset())  # type: ignore[attr-defined]


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
        return tuple(
            c.view(full).clone(memory_format=torch.contiguous_format).view(c.shape)
            for c, full in zip(corners, fulls, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        spread: list[Tensor | None] = [None]
        for corner, shape, gradient in zip(ctx.corners, ctx.shapes, gradients, strict=True):
            full = gradient.new_zeros(shape)
            corner.view(full).copy_(gradient.reshape(corner.kept))
            spread.append(full)
        return tuple(spread)


def corner(layout: Layout, full: Layout) -> Corner:
    """The corner with `layout` of a tensor with layout `full`."""
    return Corner(tuple(chain(*full)), tuple(chain(*layout)), tuple(prod(f) for f in layout))


def fits(small: Layout, full: Layout) -> bool:
    """Whether `small` is a corner of `full`: the same axes, none longer."""
    same = [len(factors) for factors in small] == [len(factors) for factors in full]
    return same and all(a <= b for a, b in zip(chain(*small), chain(*full), strict=True))
