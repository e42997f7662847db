"""What the file of a quantized net needs of one of its parts: codes, scales, zeros."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import NotFinite, UserError
from ...search_space.quantization import Scheme

Codes = NDArray[np.int8]
Floats = NDArray[np.float32]
Activation = tuple[float, int, bool]
"""(scale, zero, signed)."""
PLAUSIBLE, PLAUSIBLE_SIGNED = (0.05, 128, False), (0.05, 0, True)
"""Of activations, where no data was seen: -6.4 to 6.35. Kernels take the same time whatever the scale."""

E4M3, SMALLEST = 448.0, 1e-4
"""The largest float of 8 bits; the smallest plausible scale."""
HALF = 65504.0
"""The largest float of half precision."""


def beyond_half(name: str, what: str, low: float, high: float) -> NotFinite:
    """The error for numbers of a part that half precision does not hold."""
    return NotFinite(
        f"the {what} of {name or 'the net'} reach from {low:,.6g} to {high:,.6g}, and fp16 holds numbers up to 65,504; "
        f"give it bf16, or no scheme: keep={name!r}"
    )


@dataclass(frozen=True, eq=False)
class Integers:
    """Weights as integers: a weight is scale x (code - zero).

    codes: shaped as the weight in torch, of the scheme's bits: -8 to 7 for 4; of fp8 the bytes of the e4m3 numbers.
    scale, zero: (rows,), or (rows, groups) where the scheme has groups: weights that follow each other in a row, once
        it is flattened, share one; the last group of a row may be shorter.
    activation: (scale, zero, signed) of the one input, uint8 or int8 (or e4m3); None: it stays a float.
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

    @property
    def whole(self) -> bool:
        """Whether one scale and one zero are those of all rows."""
        return self.scale.ndim == 1 and bool((self.scale == self.scale[0]).all() and (self.zero == self.zero[0]).all())

    def by_group(self, values: NDArray[Any]) -> NDArray[Any]:
        """Scales or zeros as (rows, groups)."""
        return values.reshape(len(self.codes), -1)


def plausible(weight: Tensor, scheme: Scheme) -> Integers:
    """Codes of a weight from the ends of each group, and a made-up scale of the activations: enough to time a net.

    Scales are rounded up to half precision, so that a file can hold them in 2 bytes.
    """
    values: Floats = weight.detach().cpu().float().numpy()
    shape = values.shape
    matrix = values.reshape(1 if scheme.whole else shape[0], -1)
    size = scheme.group or matrix.shape[1]
    scale, zero = _steps(matrix, np.arange(0, matrix.shape[1], size), scheme)
    group = np.arange(matrix.shape[1]) // size
    codes = _codes(matrix / scale[:, group], zero[:, group], scheme).reshape(shape)
    if not scheme.group:
        scale, zero = np.resize(scale, shape[0]), np.resize(zero, shape[0])
    if scheme.dynamic:
        return Integers(scheme, codes, scale, zero)
    return Integers(scheme, codes, scale, zero, PLAUSIBLE_SIGNED if scheme.signed or scheme.format else PLAUSIBLE)


def _steps(matrix: Floats, starts: NDArray[np.intp], scheme: Scheme) -> tuple[Floats, Codes]:
    """Scale and zero of each group, which begin at `starts`."""
    low = np.minimum(np.minimum.reduceat(matrix, starts, axis=1), 0)
    high = np.maximum(np.maximum.reduceat(matrix, starts, axis=1), 0)
    half = 2 ** (scheme.weights - 1)
    most = E4M3 if scheme.format == "fp8" else half - 1
    step = (high - low) / (2 * half - 1) if scheme.zeros else np.maximum(-low, high) / most
    up = np.nextafter(step.astype(np.float16), np.float16(np.inf))
    scale = np.maximum(up, np.float16(SMALLEST)).astype(np.float32)
    zero = np.clip(-half - np.rint(low / scale), -half, half - 1) * scheme.zeros
    return scale, zero.astype(np.int8)


def _codes(steps: Floats, zero: Codes, scheme: Scheme) -> Codes:
    if scheme.format == "fp8":
        return torch.from_numpy(steps).to(torch.float8_e4m3fn).view(torch.int8).numpy()
    half = 2 ** (scheme.weights - 1)
    return np.clip(np.rint(steps) + zero, -half, half - 1).astype(np.int8)
