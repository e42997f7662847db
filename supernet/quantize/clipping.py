"""Ranges by search: the clip with the least squared error."""

import torch
from torch import Tensor

from .quantizers import Affine, affine_of

Range = tuple[Tensor, Tensor]
"""The smallest and the largest value, for each channel."""

SHARES = [0.9**k for k in range(40)]
"""Shares of the whole range that are tried, 1 to 0.016."""
ROUNDS = 2
MARGIN = 1.001
"""For sums that are rounded."""
LOOK = 4
"""After so many candidates it is asked whether the others can be better."""


def _error(values: Tensor, scale: Tensor, zero: Tensor, affine: Affine) -> Tensor:
    """Mean squared error over the last dimension of what `Affine` does, in one buffer."""
    steps = (values / scale).round_().add_(zero).clamp_(affine.low, affine.high)
    return steps.sub_(zero).mul_(scale).sub_(values).square_().mean(-1)


def _clipped(values: Tensor, scale: Tensor, affine: Affine) -> Tensor:
    """The least error of symmetric codes of this scale or a smaller one: that of the values out of their range."""
    inside = torch.minimum(torch.maximum(values, affine.low * scale), affine.high * scale)
    return inside.sub_(values).square_().mean(-1)


def _best(values: Tensor, lows: Tensor, highs: Tensor, bits: int, symmetric: bool) -> Range:
    """For each channel the candidate (first dimension) of the least error, the first of equal ones.

    Symmetric ones go from large to small, and are tried until clipping alone costs more.
    """
    affine = affine_of(lows, highs, bits, symmetric=symmetric, signed=True)
    scales, zeros = affine.scale.unsqueeze(-1), affine.zero.unsqueeze(-1)
    least = _error(values, scales[0], zeros[0], affine)
    kept = torch.zeros_like(least, dtype=torch.long)
    for k in range(1, len(lows)):
        error = _error(values, scales[k], zeros[k], affine)
        won = error < least
        least, kept = torch.where(won, error, least), torch.where(won, k, kept)
        if symmetric and k % LOOK == 0 and (_clipped(values, scales[k], affine) > MARGIN * least).all():
            break
    low, high = (ends.gather(0, kept.unsqueeze(0)).squeeze(0) for ends in (lows, highs))
    return low, high


def _shares(end: Tensor) -> Tensor:
    """(shares, ...)."""
    return end.new_tensor(SHARES).reshape(-1, *[1] * end.dim()) * end


def mse(values: Tensor, bits: int, symmetric: bool) -> Range:
    """The share of the whole range, the same at both ends, with the least squared error. Never worse than min_max."""
    return _best(values, _shares(values.amin(-1)), _shares(values.amax(-1)), bits, symmetric)


def dual_clip(values: Tensor, bits: int, symmetric: bool) -> Range:
    """Each channel's lower and upper end clipped separately (RepQuant, Li et al. 2024), by least squared error.

    The ends take turns, from `mse` on, and it is never worse. The same as `mse` where the range is symmetric.
    """
    low, high = mse(values, bits, symmetric)
    lows, highs = (_shares(end) for end in (values.amin(-1), values.amax(-1)))
    for _ in range(0 if symmetric else ROUNDS):
        tried = torch.cat([low.unsqueeze(0), lows])
        low, high = _best(values, tried, high.expand_as(tried), bits, symmetric)
        tried = torch.cat([high.unsqueeze(0), highs])
        low, high = _best(values, low.expand_as(tried), tried, bits, symmetric)
    return low, high
