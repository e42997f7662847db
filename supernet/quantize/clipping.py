"""Ranges found by trying: the clip of the least squared error."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .quantizers import affine_of

Range = tuple[Tensor, Tensor]
"""The smallest and the largest value, for each channel."""

SHARES = [0.9**k for k in range(40)]
"""Shares of the whole range that are tried, 1 to 0.016."""
ROUNDS = 2


def _error(values: Tensor, bounds: Range, bits: int, symmetric: bool) -> Tensor:
    """Mean squared error over the last dimension of quantizing with each channel's own range."""
    low, high = (b.unsqueeze(-1) for b in bounds)
    return (affine_of(low, high, bits, symmetric=symmetric, signed=True)(values) - values).square().mean(-1)


def _best(values: Tensor, candidates: Iterable[Range], bits: int, symmetric: bool) -> Range:
    """For each channel the candidate of the least error, the first of equal ones."""
    first, *others = candidates
    best, least = first, _error(values, first, bits, symmetric)
    for bounds in others:
        error = _error(values, bounds, bits, symmetric)
        won = error < least
        least = torch.where(won, error, least)
        best = torch.where(won, bounds[0], best[0]), torch.where(won, bounds[1], best[1])
    return best


def mse(values: Tensor, bits: int, symmetric: bool) -> Range:
    """The share of the whole range, the same at both ends, with the least squared error. Never worse than min_max."""
    low, high = values.amin(-1), values.amax(-1)
    return _best(values, [(share * low, share * high) for share in SHARES], bits, symmetric)


def dual_clip(values: Tensor, bits: int, symmetric: bool) -> Range:
    """Each channel's lower and upper end clipped separately (RepQuant, Li et al. 2024), by least squared error.

    The ends take turns, from `mse` on, and it is never worse. The same as `mse` where the range is symmetric.
    """
    best = mse(values, bits, symmetric)
    low, high = values.amin(-1), values.amax(-1)
    for _ in range(0 if symmetric else ROUNDS):
        best = _best(values, [best, *((share * low, best[1]) for share in SHARES)], bits, symmetric)
        best = _best(values, [best, *((best[0], share * high) for share in SHARES)], bits, symmetric)
    return best
