"""Projections and scores that every attention shares.

Letters: B batch, N tokens, D width, K key/value heads, G query heads per key/value head, C channels per head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layout import Linear
from .base import Context

ROTARY = "rotary"
"""Name in `context.memory` of the angles (N, C/2) by which queries and keys are turned."""


class Attention(nn.Module):
    """Queries, keys, values and the way back. Attentions that inherit it share these weights by name.

    K and G are separate sizes, and together name the whole family: multi-head (G = 1), grouped-query, multi-query
    (K = 1, Shazeer 2019) and sparse-query attention (K*G below width/C). A gene "heads" with K = heads/G would not
    nest: of 4 heads as (K, G) = (2, 2) or (4, 1), neither is a corner of the other.
    """

    def __init__(self, width: int, kv_heads: int, group: int, head_dim: int) -> None:
        super().__init__()
        self.sizes = (kv_heads, group, head_dim)
        self.q = Linear(width, (kv_heads, group, head_dim))
        self.k = Linear(width, (kv_heads, head_dim))
        self.v = Linear(width, (kv_heads, head_dim))
        self.o = Linear((kv_heads, group, head_dim), width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) to queries (B, K, G, N, C), keys and values (B, K, N, C)."""
        return self.split(self.q(x), self.k(x), self.v(x))

    def split(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, N, K*G*C), keys and values (B, N, K*C) by heads."""
        kv_heads, group, head_dim = self.sizes
        q = q.reshape(*q.shape[:2], kv_heads, group, head_dim).permute(0, 2, 3, 1, 4)
        k, v = (t.reshape(*t.shape[:2], kv_heads, head_dim).transpose(1, 2) for t in (k, v))
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """Softmax attention over all tokens, turned by rotary positions where the space has them; (B, N, D)."""
        if (angles := context.memory.get(ROTARY)) is not None:
            q, k = (turned(t, angles, context.prefix) for t in (q, k))
        return self.merge(softmax_attention(q, k, v, mask=context.mask, causal=context.causal))

    def merge(self, heads: Tensor) -> Tensor:
        """(B, K, G, N, C) to (B, N, D)."""
        y: Tensor = self.o(heads.permute(0, 3, 1, 2, 4).flatten(2))
        return y


def turned(x: Tensor, angles: Tensor, prefix: int) -> Tensor:
    """Heads (..., P + N, C) with channels i and i + C/2 turned by the angles (N, C/2); prefix tokens have no place."""
    a, b = x[..., prefix:, :].chunk(2, -1)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    y = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([x[..., :prefix, :], y], -2) if prefix else y


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Scaled dot-product attention over grouped heads.

    q (B, K, G, N, C), k and v (B, K, N, C), mask (B, N) bool, True for keys that may be seen; returns (B, K, G, N, C).
    """
    keys = None if mask is None else mask[:, None, None]  # (B, 1, 1, N)
    if causal and keys is not None:
        keys = keys & keys.new_ones(keys.shape[-1], keys.shape[-1]).tril()
    group = q.shape[2]
    y: Tensor = F.scaled_dot_product_attention(
        q.flatten(1, 2),
        k.repeat_interleave(group, 1) if group > 1 else k,
        v.repeat_interleave(group, 1) if group > 1 else v,
        attn_mask=keys,
        is_causal=causal and keys is None,
    )
    return y.reshape(q.shape)
