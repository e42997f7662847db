"""What a number becomes in few bits: affine codes, and powers of sqrt(2) for softmax outputs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import NotFinite, UserError

SMALLEST_SCALE = 2.0**-24
"""The smallest positive number of float16: a scale stored in half precision does not become 0."""
MOST_BITS = 16


@dataclass(frozen=True, eq=False)
class Affine:
    """x ~ scale * (code - zero), as ONNX's QuantizeLinear and torch's fake_quantize have it.

    scale: > 0; of shape (), or (channels,) with an `axis`, or (rows, ceil(columns / group)) with a `group`. Without
        both, any shape that broadcasts against x.
    zero: the code of 0, integers of scale's shape within [low, high].
    axis: the dimension of x that has a scale for each of its entries.
    group: columns of a weight (rows, columns) that share a scale; the last group may be smaller.
    Error: bits outside 2..16, an axis and a group at once, a zero of another shape.
    """

    bits: int
    scale: Tensor
    zero: Tensor
    signed: bool
    axis: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= MOST_BITS:
            raise UserError(f"bits must be between 2 and {MOST_BITS}, got {self.bits}")
        if self.axis is not None and self.group is not None:
            raise UserError("scales go along an axis or over groups of columns, not both; leave one of them None")
        if self.scale.shape != self.zero.shape:
            raise UserError(f"zero has the shape {tuple(self.zero.shape)}, not the scale's {tuple(self.scale.shape)}")

    @property
    def low(self) -> int:
        """The smallest code. Signed codes use all 2^bits values, as a runtime that saturates does."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest code."""
        return self.low + (1 << self.bits) - 1

    def spread(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(scale, zero) so that they broadcast against `x`."""
        scale, zero = (self._spread(v, x) for v in (self.scale, self.zero))
        return scale, zero

    def _spread(self, values: Tensor, x: Tensor) -> Tensor:
        if self.group is not None:
            return values.repeat_interleave(self.group, dim=-1)[:, : x.shape[-1]]
        if self.axis is not None:
            return values.reshape([-1 if i == self.axis % x.dim() else 1 for i in range(x.dim())])
        return values

    def codes(self, x: Tensor) -> Tensor:
        """int32 codes of `x`: the nearest, half to even, clipped to [low, high]."""
        scale, zero = self.spread(x)
        return (torch.round(x / scale) + zero).clamp(self.low, self.high).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """The numbers that `codes` stand for, in the scale's dtype."""
        scale, zero = self.spread(codes)
        return (codes.int() - zero).to(scale.dtype) * scale  # of int8 codes and one zero for all torch makes int8

    def __call__(self, x: Tensor) -> Tensor:
        """`x` as its codes have it, in its own dtype."""
        scale, zero = self.spread(x)
        steps = (x.detach() / scale).round_().add_(zero)
        codes = steps.clamp_(self.low, self.high).sub_(zero)  # as `codes` and `decode` have them, without the integers
        return codes.to(scale.dtype).mul_(scale).to(x.dtype)

    def inside(self, x: Tensor) -> Tensor:
        """Where nothing is clipped."""
        scale, zero = self.spread(x)
        steps = (x / scale).round_().add_(zero)
        return (steps >= self.low) & (steps <= self.high)


def affine_of(
    low: Tensor,
    high: Tensor,
    bits: int,
    *,
    symmetric: bool,
    signed: bool,
    axis: int | None = None,
    group: int | None = None,
) -> Affine:
    """The quantizer whose range holds [low, high] and 0, so that its zero is never outside of its integers.

    Symmetric: the zero is in the middle of the integers and one step less than they allow is used, so that both signs
    reach equally far. A range of nothing but 0 gets the smallest scale. Error: a bound that is not finite.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    if not (low.isfinite().all() and high.isfinite().all()):
        raise NotFinite("a range to quantize has an end that is not a finite number; calibrate on finite data")
    smallest = 0 if not signed else -(2 ** (bits - 1))
    if symmetric:
        scale = (torch.maximum(-low, high) / (2 ** (bits - 1) - 1)).clamp(min=SMALLEST_SCALE)
        zero = torch.full_like(scale, smallest + 2 ** (bits - 1))
    else:
        scale = ((high - low) / (2**bits - 1)).clamp(min=SMALLEST_SCALE)
        zero = (smallest - torch.round(low / scale)).clamp(smallest, smallest + 2**bits - 1)
    return Affine(bits, scale, zero.to(torch.int32), signed, axis, group)


@dataclass(frozen=True)
class Dynamic:
    """Activations in signed codes, `group` neighbours of the last dimension with a scale of their own, as they come.

    So ONNX Runtime's MatMulNBits rounds them at accuracy level 4.
    """

    bits: int
    group: int

    def __call__(self, x: Tensor) -> Tensor:
        """`x` as its codes have it."""
        width = x.shape[-1]
        blocks = torch.nn.functional.pad(x, (0, -width % self.group)).reshape(*x.shape[:-1], -1, self.group)
        scale = blocks.abs().amax(-1, keepdim=True) / ((1 << self.bits - 1) - 1)
        rounded: Tensor = torch.round(blocks / scale.clamp(min=torch.finfo(x.dtype).tiny)) * scale
        return rounded.flatten(-2)[..., :width]


@dataclass(frozen=True, eq=False)
class LogSqrt2:
    """Softmax outputs as powers of sqrt(2): x ~ delta * 2^(-q / 2) (RepQ-ViT, Li et al. 2023).

    delta: > 0, the value of code 0, such as an observer's `high`; broadcasts against x. The last of the 2^bits codes
        is the number 0; in the authors' code 0 is one code more, which `bits` bits do not hold.
    """

    bits: int
    delta: Tensor

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= MOST_BITS:
            raise UserError(f"bits must be between 2 and {MOST_BITS}, got {self.bits}")

    @property
    def zero_code(self) -> int:
        """The code of the number 0, and of what is nearer to 0 than the last power."""
        return (1 << self.bits) - 1

    def codes(self, x: Tensor) -> Tensor:
        """int32 codes of `x` >= 0: round(-2 log2(x / delta)), at least 0; from the range's end on, the code of 0."""
        exponent = torch.round(-2 * torch.log2((x / self.delta).clamp(min=0)))
        return exponent.clamp(0, self.zero_code).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """The numbers that `codes` stand for: delta * 2^(-ceil(q/2)) * (1 + (q mod 2)(sqrt(2) - 1)), or 0."""
        odd = 1 + (codes % 2).to(self.delta.dtype) * (math.sqrt(2) - 1)
        powers = torch.exp2(-((codes + 1) // 2).to(self.delta.dtype))
        return torch.where(codes >= self.zero_code, 0.0, self.delta * powers * odd)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` as its codes have it, in its own dtype."""
        return self.decode(self.codes(x)).to(x.dtype)

    def inside(self, x: Tensor) -> Tensor:
        """Where nothing is clipped."""
        return (x <= self.delta) & (self.codes(x) < self.zero_code)
