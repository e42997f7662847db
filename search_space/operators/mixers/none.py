"""No mixer."""

import torch
from torch import Tensor, nn

from ..base import NONE, Capabilities, Context, register


@register("mixer", NONE, Capabilities(causal=True))
class NoMixer(nn.Module):
    """Contributes zero; the skeleton leaves the branch out, with its norm, so that no parameter is dead."""

    def __init__(self, width: int) -> None:
        super().__init__()
        del width

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        return torch.zeros_like(x)
