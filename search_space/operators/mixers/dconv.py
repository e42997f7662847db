"""Softmax attention whose queries, keys and values are convolved."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layout import Layout
from ..attention import ROTARY, Attention
from ..base import Capabilities, Context, layouts, register

TAPS = 3


class HeadConv(nn.Module):
    """Causal depthwise convolution along the tokens, a kernel for each channel of each head: (B, N, H*C) to the same.

    It starts as a mean that leans on the token itself: .5 for it, .5/3 for each of the two before (Primer's code).
    """

    def __init__(self, *axes: int) -> None:
        super().__init__()
        channels = torch.Size(axes).numel()
        self.weight = nn.Parameter(torch.full((channels, TAPS), 0.5 / TAPS))
        with torch.no_grad():
            self.weight[:, 0] = 0.5
        self.layouts: dict[str, Layout] = {"weight": (axes, (TAPS,))}

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        shifted = [x, *(F.pad(x, (0, 0, back, 0))[:, :tokens] for back in range(1, TAPS))]
        return torch.stack([y * w for y, w in zip(shifted, self.weight.unbind(1), strict=True)]).sum(0)


@register("mixer", "dconv", Capabilities(layouts=layouts("sequence"), causal=True, reads=frozenset({ROTARY})))
class MultiDconv(Attention):
    """Multi-dconv-head attention: each projection is followed by a causal convolution of width 3, head by head.

    Primer (So et al. 2021, arXiv:2109.08668), which pairs it with an FFN of squared ReLU (`activation: relu2`).
    """

    def __init__(self, width: int, kv_heads: int, group: int, head_dim: int) -> None:
        super().__init__(width, kv_heads, group, head_dim)
        self.q_conv = HeadConv(kv_heads, group, head_dim)
        self.k_conv, self.v_conv = HeadConv(kv_heads, head_dim), HeadConv(kv_heads, head_dim)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if context.mask is not None:  # padding is no neighbour
            x = x * context.mask.unsqueeze(-1)
        heads = self.split(self.q_conv(self.q(x)), self.k_conv(self.k(x)), self.v_conv(self.v(x)))
        return self.attend(*heads, context)
