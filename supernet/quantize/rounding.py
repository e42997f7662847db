"""Which code a weight gets: the nearest, or the one that makes up for the errors of the others (GPTQ)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import UserError
from .quantizers import Affine

Floats = NDArray[np.float64]
BLOCK = 32
"""Columns after which the correction of all later ones is done at once: the same result, faster."""


def nearest(weight: Tensor, affine: Affine) -> Tensor:
    """The nearest codes, each on its own."""
    return affine.codes(weight)


def hessian(inputs: Tensor) -> Tensor:
    """X^T X / samples (in, in) in float64 of a linear layer's inputs (..., in): its squared error's second derivative.

    The factor is of no importance to `gptq`, so that those of several batches may be summed.
    """
    x = inputs.reshape(-1, inputs.shape[-1]).double()
    return x.T @ x / max(len(x), 1)


def reconstruction(weight: Tensor, quantized: Tensor, second: Tensor) -> Tensor:
    """The squared error of each output (out,), ||(w - q) X||^2, by the Hessian `second` (in, in)."""
    error = (weight - quantized).double()
    return ((error @ second.double()) * error).sum(-1)


def gptq(weight: Tensor, second: Tensor, affine: Affine, *, damping: float = 0.01, order: bool = True) -> Tensor:
    """Codes (out, in) of `weight`, a column after the other, the rest corrected for each error (Frantar et al. 2023).

    second: the Hessian (in, in) of the inputs, see `hessian`.
    damping: share of its mean diagonal that is added to the diagonal.
    order: columns of the largest diagonal first (scales are given, so that groups stay as they are).
    An output whose error on the calibration data became larger than the nearest codes' keeps those.
    Error: a Hessian of another shape, that is not finite or not positive semi-definite.
    """
    if second.shape != (weight.shape[1],) * 2:
        raise UserError(f"the Hessian has the shape {tuple(second.shape)}, not (in, in) of {weight.shape[1]} inputs")
    columns = second.diagonal().argsort(descending=True) if order else torch.arange(len(second), device=weight.device)
    factor = _inverse_factor(second.double()[columns][:, columns], damping)
    scale, zero = (v.expand_as(weight)[:, columns] for v in affine.spread(weight))
    grid = _Grid(_turned(scale), _turned(zero), affine.low, affine.high)
    codes = torch.from_numpy(_one_by_one(_turned(weight[:, columns]), factor.cpu().numpy(), grid)).to(weight.device)
    return _no_worse(weight, codes.T[:, columns.argsort()].to(torch.int32), second, affine)


def _turned(weight: Tensor) -> Floats:
    """(in, out) in float64: what is done column by column then reads memory in order."""
    return weight.detach().double().T.contiguous().cpu().numpy()


@dataclass(frozen=True, eq=False)
class _Grid:
    """Scale and zero (in, out) of every weight."""

    scale: Floats
    zero: Floats
    low: int
    high: int

    def codes(self, column: Floats, i: int) -> Floats:
        steps: Floats = column / self.scale[i]
        np.rint(steps, out=steps)
        steps += self.zero[i]
        np.maximum(steps, self.low, out=steps)
        np.minimum(steps, self.high, out=steps)
        return steps

    def decode(self, codes: Floats, i: int) -> Floats:
        steps: Floats = codes - self.zero[i]
        steps *= self.scale[i]
        return steps


def _inverse_factor(second: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse. An input that never varies is left to itself."""
    diagonal = second.diagonal()
    mean = diagonal.mean().clamp(min=torch.finfo(second.dtype).tiny)
    damped = second + torch.diag(torch.where(diagonal == 0, mean, 0.0) + damping * mean)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed or not lower.isfinite().all():
        raise UserError("the Hessian is not positive semi-definite; it must be the sum of x x^T over finite inputs")
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower))
    return factor.mT.contiguous()


def _one_by_one(weight: Floats, factor: Floats, grid: _Grid) -> Floats:
    """Quantize the columns of a weight (rows of `weight`) in turn; what a column loses, those after it make up for.

    In NumPy: many calls on few numbers each, of which its own cost less than torch's.
    """
    rest, codes = weight, np.empty_like(weight)
    for start in range(0, len(weight), BLOCK):
        stop = min(start + BLOCK, len(weight))
        lost, within = np.empty_like(rest[start:stop]), factor[start:stop, start:stop].T.copy()
        for k, i in enumerate(range(start, stop)):
            column = rest[i] - within[k, :k] @ lost[:k]
            codes[i] = grid.codes(column, i)
            lost[k] = (column - grid.decode(codes[i], i)) / within[k, k]
        rest[stop:] -= factor[start:stop, stop:].T @ lost
    return codes


def _no_worse(weight: Tensor, codes: Tensor, second: Tensor, affine: Affine) -> Tensor:
    """`codes`, with the nearest in every row where they are better."""
    plain = nearest(weight, affine)
    ours, theirs = (reconstruction(weight, affine.decode(c), second) for c in (codes, plain))
    return torch.where((ours <= theirs).unsqueeze(1), codes, plain)
