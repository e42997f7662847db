"""The leading corner of a tensor, axis by axis: the only slicing code of the project."""

from dataclasses import dataclass
from itertools import chain
from math import prod

from torch import Tensor
from torch.nn.functional import pad

from ..search_space.layout import Layout


@dataclass(frozen=True)
class Corner:
    """Where a smaller parameter lies in a larger one.

    axes: the larger tensor's factors of all dimensions; kept: how many entries of each axis stay; shape: of the smaller
    parameter; crop: the same cut in the words of `torch.nn.functional.pad`.
    """

    axes: tuple[int, ...]
    kept: tuple[slice, ...]
    shape: tuple[int, ...]
    crop: tuple[int, ...]

    def view(self, full: Tensor) -> Tensor:
        """The corner as a view, one dimension for each axis: writing to it writes to `full`."""
        return full.view(self.axes)[self.kept]

    def of(self, full: Tensor) -> Tensor:
        """The corner in its plain shape; differentiable.

        Cropping by a negative pad is one node in the autograd graph (slices would be one for each axis), and its result
        is contiguous: a subnet inside the supernet and the same subnet extracted run the same kernels.
        """
        if not any(self.crop):
            return full
        factored = full.dim() != len(self.axes)
        cut = pad(full.view(self.axes), self.crop).view(self.shape) if factored else pad(full, self.crop)
        # Without gradients the cut is no parameter any more, and torch's GRU chooses its kernel by that.
        return cut.detach().requires_grad_(full.requires_grad) if cut.is_leaf else cut


def corner(layout: Layout, full: Layout) -> Corner:
    """The corner with `layout` of a tensor with layout `full`."""
    axes, kept = tuple(chain(*full)), tuple(chain(*layout))
    crop = chain(*((0, k - a) for a, k in zip(reversed(axes), reversed(kept), strict=True)))
    return Corner(axes, tuple(slice(k) for k in kept), tuple(prod(f) for f in layout), tuple(crop))


def fits(small: Layout, full: Layout) -> bool:
    """Whether `small` is a corner of `full`: the same axes, none longer."""
    same = [len(factors) for factors in small] == [len(factors) for factors in full]
    return same and all(a <= b for a, b in zip(chain(*small), chain(*full), strict=True))
