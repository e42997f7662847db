"""Functions of many rows of logits, in chunks: a step over a vocabulary of 49,152 tokens fits in memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MOST_LOGITS = 2**23
"""Numbers that are computed with at once: 32 MiB in float32."""


def over_rows(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """The sum of `function`, which sums over rows, of tensors whose first dimension is the rows.

    The chunks are computed again in the backward pass, so that of the intermediate values (a log-softmax of each net
    in float32) only those of one chunk are ever held.
    """
    rows = max(1, MOST_LOGITS // max(1, tensors[0][0].numel())) if len(tensors[0]) else 1
    if len(tensors[0]) <= rows:
        return function(*tensors)
    chunks = zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)
    sums = [checkpoint(function, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return torch.stack(sums).sum()
