"""What the file of a quantized net needs of one of its parts: codes, scales, zeros."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...errors import UserError
from ...search_space.quantization import Scheme

Codes = NDArray[np.int8]
Floats = NDArray[np.float32]
Activation = tuple[float, int, bool]
"""(scale, zero, signed)."""
PLAUSIBLE = (0.05, 128, False)
"""Of activations, where no data was seen: -6.4 to 6.35. Kernels take the same time whatever the scale."""


@dataclass(frozen=True, eq=False)
class Integers:
    """Weights as integers: a weight is scale x (code - zero).

    codes: shaped as the weight in torch, of the scheme's bits: -8 to 7 for 4.
    scale, zero: (rows,), or (rows, groups) where the scheme has groups: weights that follow each other in a row, once
        it is flattened, share one; the last group of a row may be shorter.
    activation: (scale, zero, signed) of the one input, uint8 or int8; None: it stays a float.
    """

    scheme: Scheme
    codes: Codes
    scale: Floats
    zero: NDArray[np.integer]
    activation: Activation | None = None

    def __post_init__(self) -> None:
        rows, least = len(self.codes), -(2 ** (self.scheme.weights - 1))
        if len(self.scale) != rows or self.zero.shape != self.scale.shape:
            raise UserError(f"{rows} rows of codes need scales and zeros of (rows,) or (rows, groups)")
        if self.codes.dtype != np.int8 or self.codes.min() < least or self.codes.max() >= -least:
            raise UserError(f"codes of {self.scheme.weights} bits are int8 numbers from {least} to {-least - 1}")

    @property
    def bits(self) -> int:
        """Of what holds a code in a file: 4 or 8."""
        return 4 if self.scheme.weights <= 4 else 8

    @property
    def matrix(self) -> Codes:
        """(rows, weights of a row)."""
        return self.codes.reshape(len(self.codes), -1)

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        return self.matrix.shape[1] if self.scale.ndim == 1 else self.scheme.group or self.matrix.shape[1]

    def by_group(self, values: NDArray[Any]) -> NDArray[Any]:
        """Scales or zeros as (rows, groups)."""
        return values.reshape(len(self.codes), -1)


def plausible(weight: Tensor, scheme: Scheme) -> Integers:
    """Codes of a weight from the largest of each group, and a made-up scale of the activations: enough to time a net.

    Scales are rounded up to half precision, so that a file can hold them in 2 bytes.
    """
    values = weight.detach().cpu().float().numpy()
    matrix = values.reshape(len(values), -1)
    largest, size = 2 ** (scheme.weights - 1) - 1, scheme.group or matrix.shape[1]
    starts = np.arange(0, matrix.shape[1], size)
    top = np.maximum.reduceat(np.abs(matrix), starts, axis=1) / largest
    scale = np.maximum(np.nextafter(top.astype(np.float16), np.float16(np.inf)), np.float16(1e-4)).astype(np.float32)
    codes = np.clip(np.rint(matrix / np.repeat(scale, size, axis=1)[:, : matrix.shape[1]]), -largest, largest)
    scale = scale if scheme.group else scale[:, 0]
    shaped = codes.astype(np.int8).reshape(values.shape)
    return Integers(scheme, shaped, scale, np.zeros_like(scale, dtype=np.int8), PLAUSIBLE)
