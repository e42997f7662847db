"""Root-mean-square normalisation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Capabilities, Context, register


@register("norm", "rmsnorm", Capabilities(causal=True))
class RmsNorm(nn.Module):
    """Unit root mean square over the channels of a token, then scale (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        return F.rms_norm(x, self.weight.shape, self.weight, eps=1e-6)
