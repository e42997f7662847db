"""The gated FFN."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Capabilities, Context, register


@register("ffn", "swiglu", Capabilities(causal=True))
class SwiGlu(nn.Module):
    """Hidden units gated by the SiLU of a second projection (Shazeer 2020, arXiv:2002.05202).

    It has 3/2 of the parameters of the plain FFN with as many hidden units.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y
