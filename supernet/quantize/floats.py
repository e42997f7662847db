"""Floats of 8 bits: e4m3, 4 bits of exponent and 3 of mantissa, without infinities (Micikevicius et al. 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import NotFinite
from .quantizers import SMALLEST_SCALE

LARGEST = 448.0


@dataclass(frozen=True, eq=False)
class Float8:
    """x ~ scale * code, a code being a float8_e4m3fn. scale: > 0, of shape (), or (rows,) of a weight (rows, ...)."""

    scale: Tensor

    @classmethod
    def of(cls, x: Tensor, *, rows: bool = False) -> "Float8":
        """The one whose largest number is the largest of `x`, or of each of its rows. Error: not finite."""
        largest = x.abs().flatten(1).amax(1) if rows else x.abs().max()
        if not largest.isfinite().all():
            raise NotFinite("a range to quantize has an end that is not a finite number; calibrate on finite data")
        return cls((largest / LARGEST).clamp(min=SMALLEST_SCALE))

    def codes(self, x: Tensor) -> Tensor:
        """The nearest, half to even; what lies beyond is 448."""
        return (x / self._spread(x)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)

    def decode(self, codes: Tensor) -> Tensor:
        """The numbers that `codes` stand for, in the scale's dtype."""
        return codes.to(self.scale.dtype) * self._spread(codes)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` as its codes have it, in its own dtype."""
        return self.decode(self.codes(x)).to(x.dtype)

    def _spread(self, x: Tensor) -> Tensor:
        return self.scale.reshape(-1, *[1] * (x.dim() - 1)) if self.scale.dim() else self.scale
