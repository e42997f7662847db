"""Layer normalisation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Capabilities, Context, register


@register("norm", "layernorm", Capabilities(causal=True))
class LayerNorm(nn.Module):
    """Zero mean and unit variance over the channels of a token, then scale and shift (Ba et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)
