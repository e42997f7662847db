"""torch's `MultiheadAttention` with its projections as modules that are called, so that a policy can cover them."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear


class Projected(nn.MultiheadAttention):
    """The same outputs of the same parameters, under the same names.

    Self-attention calls `in_proj` (queries, keys and values, one below the other) and `out_proj`. Attention to another
    sequence is left to torch, which reads the weights without calling anything.
    """

    in_proj: nn.Linear

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **how: Any
    ) -> tuple[Tensor, Tensor | None]:
        if query is not key or key is not value or args:
            return super().forward(query, key, value, *args, **how)
        return self._itself(query, **how)

    def _itself(
        self,
        x: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        del is_causal  # a hint: the mask comes with it
        turned = x.dim() == 3 and not self.batch_first
        batch = x.transpose(0, 1) if turned else x.view(-1, *x.shape[-2:])
        n, length, width = batch.shape
        shape = n, length, 3, self.num_heads, width // self.num_heads
        q, k, v = self.in_proj(batch).view(shape).permute(2, 0, 3, 1, 4)
        mask = _mask(key_padding_mask, attn_mask, q)
        if need_weights:
            scores = q @ k.transpose(-1, -2) * (width // self.num_heads) ** -0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), self.dropout, self.training)
            y = weights @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        out = self.out_proj(y.transpose(1, 2).reshape(n, length, width))
        out = out.transpose(0, 1) if turned else out.view(x.shape)
        if not need_weights:
            return out, None
        weights = weights.mean(1) if average_attn_weights else weights
        return out, weights if x.dim() == 3 else weights[0]


def _mask(padding: Tensor | None, mask: Tensor | None, q: Tensor) -> Tensor | None:
    """What is added to the scores, to broadcast with (batch, heads, length, length); True: not to be looked at."""
    total: Tensor | None = None
    if mask is not None:
        total = _added(mask, q)
        total = total.view(*q.shape[:2], *mask.shape[-2:]) if mask.dim() == 3 else total
    if padding is not None:
        ends = _added(padding, q).view(q.shape[0], 1, 1, q.shape[2])
        total = ends if total is None else total + ends
    return total


def _added(mask: Tensor, q: Tensor) -> Tensor:
    return q.new_zeros(mask.shape).masked_fill(mask, float("-inf")) if not mask.is_floating_point() else mask


def open_projections(root: nn.Module) -> None:
    """Make every `MultiheadAttention` of one width a `Projected` one, in place; others stay in floats."""
    for module in _closed(root):
        _open(module)


def with_projections(root: nn.Module) -> nn.Module:
    """The module, or a copy with `Projected` attention where it has any that is not."""
    if not _closed(root):
        return root
    root = deepcopy(root)
    open_projections(root)
    return root


def _closed(root: nn.Module) -> list[nn.MultiheadAttention]:
    return [m for m in root.modules() if type(m) is nn.MultiheadAttention and _plain(m)]


def _open(module: Any) -> None:
    with torch.device("meta"):
        module.in_proj = nn.Linear(module.embed_dim, 3 * module.embed_dim, bias=module.in_proj_bias is not None)
    module.in_proj.weight, module.in_proj.bias = module.in_proj_weight, module.in_proj_bias  # tied
    module.out_proj.__class__ = nn.Linear
    module.__class__ = Projected


def _plain(module: nn.MultiheadAttention) -> bool:
    return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn


def is_called(module: nn.Module) -> bool:
    """Not the output projection of a `MultiheadAttention`, whose weight torch reads without calling it."""
    return not isinstance(module, NonDynamicallyQuantizableLinear)
