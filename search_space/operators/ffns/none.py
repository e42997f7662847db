"""No FFN."""

import torch
from torch import Tensor, nn

from ..base import NONE, Capabilities, Context, register


@register("ffn", NONE, Capabilities(causal=True))
class NoFfn(nn.Module):
    """Contributes zero; the skeleton leaves the branch out, with its norm, so that no parameter is dead."""

    def __init__(self, width: int) -> None:
        super().__init__()
        del width

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        return torch.zeros_like(x)
