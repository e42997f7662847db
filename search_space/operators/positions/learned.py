"""Learned positions."""

import torch
from torch import Tensor, nn

from ..base import TOKEN_STD, Capabilities, Context, layouts, register


@register("position", "learned", Capabilities(layouts=layouts("sequence", "grid"), causal=True))
class Learned(nn.Module):
    """Adds one learned vector per place."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(tokens, width).normal_(std=TOKEN_STD))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        return x + self.table[: x.shape[1]]
