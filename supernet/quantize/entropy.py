"""The range that keeps the most information."""

import torch
from torch import Tensor

from .clipping import Range

BINS, STRIDE = 2048, 16
"""Bins of the histogram, and by how many the clip moves at a time: a 128th of the range (one bin in TensorRT)."""


def entropy(values: Tensor, bits: int, _symmetric: bool) -> Range:
    """The clip of |values| whose 2^(bits - 1) levels lose the least information (KL; Migacz 2017, TensorRT)."""
    counts, width = _histogram(values)
    levels = min(2 ** (bits - 1), BINS)
    least = torch.full_like(width, torch.inf, dtype=torch.float64)
    kept = torch.full_like(width, BINS)
    for bins in range(levels, BINS + 1, STRIDE):
        divergence = _divergence(counts, bins, levels)
        won = divergence < least
        least, kept = torch.where(won, divergence, least), torch.where(won, bins, kept)
    clip = kept * width
    return torch.maximum(values.amin(-1), -clip), torch.minimum(values.amax(-1), clip)


def _histogram(values: Tensor) -> tuple[Tensor, Tensor]:
    """(counts (..., BINS) of |values|, the width of a bin (...)). 0 is left out: it always has a code of its own."""
    size = values.abs()
    width = size.amax(-1) / BINS
    place = (size / width.clamp(min=torch.finfo(width.dtype).tiny).unsqueeze(-1)).long().clamp(max=BINS - 1)
    counts = torch.zeros(*width.shape, BINS, dtype=torch.float64, device=values.device)
    return counts.scatter_add_(-1, place, (size > 0).double()), width


def _divergence(counts: Tensor, bins: int, levels: int) -> Tensor:
    """KL of the first `bins` bins, all beyond them put into the last, from the same in `levels` levels."""
    reference = counts[..., :bins].clone()
    filled = (reference > 0).to(counts.dtype)
    level = (torch.arange(bins, device=counts.device) * levels // bins).expand_as(reference)
    total, occupied = (
        counts.new_zeros(*counts.shape[:-1], levels).scatter_add_(-1, level, v) for v in (reference, filled)
    )
    candidate = filled * (total / occupied.clamp(min=1)).gather(-1, level)
    reference[..., -1] += counts[..., bins:].sum(-1)
    p = reference / reference.sum(-1, keepdim=True).clamp(min=1)
    q = candidate / candidate.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(p > 0, p * (p / q.clamp(min=1e-4 / bins)).log(), 0.0).sum(-1)
