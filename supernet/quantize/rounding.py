"""Which code a weight gets: the nearest, or the one that makes up for the errors of the others (GPTQ)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UserError
from .quantizers import Affine

BLOCK = 128
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
    scale, zero = (v.expand_as(weight)[:, columns].double() for v in affine.spread(weight))
    grid = _Grid(scale, zero, affine.low, affine.high)
    codes = _one_by_one(weight.double()[:, columns], factor, grid)[:, columns.argsort()]
    return _no_worse(weight, codes.to(torch.int32), second, affine)


@dataclass(frozen=True, eq=False)
class _Grid:
    """Scale and zero (out, in) of every weight."""

    scale: Tensor
    zero: Tensor
    low: int
    high: int

    def codes(self, column: Tensor, i: int) -> Tensor:
        return (torch.round(column / self.scale[:, i]) + self.zero[:, i]).clamp(self.low, self.high)

    def decode(self, codes: Tensor, i: int) -> Tensor:
        return (codes - self.zero[:, i]) * self.scale[:, i]


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


def _one_by_one(weight: Tensor, factor: Tensor, grid: _Grid) -> Tensor:
    """Quantize the columns from left to right; what a column loses, those on its right make up for."""
    rest, codes = weight.clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[1], BLOCK):
        stop = min(start + BLOCK, weight.shape[1])
        lost = torch.empty_like(rest[:, start:stop])
        for i in range(start, stop):
            codes[:, i] = grid.codes(rest[:, i], i)
            lost[:, i - start] = (rest[:, i] - grid.decode(codes[:, i], i)) / factor[i, i]
            rest[:, i + 1 : stop] -= torch.outer(lost[:, i - start], factor[i, i + 1 : stop])
        rest[:, stop:] -= lost @ factor[start:stop, stop:]
    return codes


def _no_worse(weight: Tensor, codes: Tensor, second: Tensor, affine: Affine) -> Tensor:
    """`codes`, with the nearest in every row where they are better."""
    plain = nearest(weight, affine)
    ours, theirs = (reconstruction(weight, affine.decode(c), second) for c in (codes, plain))
    return torch.where((ours <= theirs).unsqueeze(1), codes, plain)
