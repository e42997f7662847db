"""What may legitimately differ between a small net and a large one whose other entries are zero, taken out of both.

The statistics of a norm, a mean over a width, the scale of an attention and the sum of a softmax all count units that
are zero in the one net and absent in the other. Here every such operator is replaced by one that does not count, below
all modules and functions: whatever library a norm comes from, or whether it is written by hand.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..watching import Watching

aten = torch.ops.aten
SHARE = 0.125
"""Stands for one over the length in a mean."""
EXCLUDED = -1e6
"""Scores below this are those of places that an attention may not see."""


class Neutral(Watching):
    """Calls in this context run without the differences above; `names` and `splits` say what was called.

    scalars: constants of products and quotients (scales, lengths), in order; those of another net can be imposed on
    this one. splits: sizes before and after every change of shape, and the width of the last matrix product before it.
    """

    def __init__(self, scalars: Sequence[float] | None = None) -> None:
        super().__init__()
        self.imposed = scalars
        self.scalars: list[float] = []
        self.names: list[str] = []
        self.splits: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
        self._width = 0
        self._means: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, kwargs = func.overloadpacket, kwargs or {}
        self.names.append(str(packet))
        if packet in _NORMS:
            return _NORMS[packet](*args, **kwargs)
        if packet is aten.mean:
            return self._mean(*args, **kwargs)
        if packet in (aten.sub, aten.sub_) and self._centres(args):
            return args[0] if packet is aten.sub_ else args[0].clone()
        if packet in (aten.mul, aten.div, aten.mul_, aten.div_) and args[0].is_floating_point():
            args = (args[0], self._scalar(args[1]), *args[2:])
        if packet in _COMPETITIONS:
            args = (_without_masked(args[0], _dim(packet, args, kwargs)), *args[1:])
        result = func(*args, **kwargs)
        if packet in (aten.view, aten._unsafe_view, aten.reshape):
            self.splits.append((tuple(args[0].shape), tuple(result.shape), self._width))
        if packet in _PRODUCTS:
            self._width = result.shape[_PRODUCTS[packet]]
        return result

    def _mean(self, x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
        mean = x.sum(dim, keepdim) * SHARE if dim is not None else x.sum() * SHARE
        self._means[id(mean)] = (mean, x)  # holding both keeps their ids from being used again
        return mean

    def _centres(self, args: Sequence[Any]) -> bool:
        """Whether the mean of a tensor is being subtracted from it, as a norm written by hand does."""
        return id(args[1]) in self._means and self._means[id(args[1])][1] is args[0]

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, complex) or (isinstance(value, Tensor) and (value.dim() or not value.is_floating_point())):
            return value
        self.scalars.append(float(value))
        if self.imposed is None or len(self.scalars) > len(self.imposed):
            return value
        constant = self.imposed[len(self.scalars) - 1]
        return torch.full_like(value, constant) if isinstance(value, Tensor) else constant


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int]) -> Tensor:
    """A norm without its statistics."""
    x = x if weight is None else x * weight.reshape(shape)
    return x.clone() if bias is None else x + bias.reshape(shape)


def _layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, *_: Any) -> Any:
    return _affine(x, weight, bias, shape), x.new_zeros(()), x.new_ones(())


def _group_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *_: Any) -> Any:
    return _affine(x, weight, bias, (1, -1, *(1 for _ in x.shape[2:]))), x.new_zeros(()), x.new_ones(())


def _rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, *_: Any) -> Any:
    return _affine(x, weight, None, shape), x.new_ones(())


def _squares(x: Tensor, dim: Any = None, *_: Any, keepdim: bool = False, **__: Any) -> Tensor:
    return x.square().sum(dim, keepdim) * SHARE


_NORMS: dict[Any, Callable[..., Any]] = {
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _group_norm,
    aten._fused_rms_norm: _rms_norm,
    aten.var: _squares,
    aten.std: lambda *args, **kwargs: _squares(*args, **kwargs).sqrt(),
    aten.var_mean: lambda *args, **kwargs: (_squares(*args, **kwargs), torch.zeros_like(_squares(*args, **kwargs))),
}

_PRODUCTS = {aten.mm: -1, aten.addmm: -1, aten.convolution: 1, aten.linear: -1}
"""Products with weights, and the dimension of their units."""

_COMPETITIONS = (aten._softmax, aten._safe_softmax, aten._log_softmax, aten.logsumexp, aten.topk, aten.amax, aten.max)
"""Operators in which the entries of one dimension compete."""


def _dim(packet: Any, args: Sequence[Any], kwargs: Any) -> Any:
    place = 2 if packet is aten.topk else 1
    return kwargs.get("dim", args[place] if len(args) > place else -1 if packet is aten.topk else None)


def _without_masked(x: Any, dim: Any) -> Any:
    """`x` with the entries along `dim` that are zero throughout, and so masked, put out of the competition."""
    dim = dim[0] if isinstance(dim, (list, tuple)) and len(dim) == 1 else dim
    if not isinstance(dim, int) or x.dim() < 2 or not x.is_floating_point():
        return x
    if not ((x != 0) & (x > EXCLUDED)).any():
        return x  # all alike, but for what an attention may not see
    zero = (x == 0).transpose(0, dim).flatten(1).all(1)
    shape = [1] * x.dim()
    shape[dim] = -1
    return x.masked_fill(zero.reshape(shape), -torch.inf) if zero.any() else x
