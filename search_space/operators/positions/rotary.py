"""Rotary positions."""

import torch
from torch import Tensor, nn

from ....errors import UserError
from ..attention import ROTARY
from ..base import Capabilities, Context, layouts, register

BASE = 10_000.0


@register("position", "rotary", Capabilities(layouts=layouts("sequence"), causal=True, leaves=frozenset({ROTARY})))
class Rotary(nn.Module):
    """Turns queries and keys by angles that grow with the place (RoFormer, Su et al. 2021, arXiv:2104.09864).

    Nothing is added to the tokens: attentions read the angles. Any length works, also one that was not trained.
    """

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        del width
        if head_dim % 2:
            raise UserError(f"position 'rotary' turns pairs of channels; head_dim must be even, got {head_dim}")
        rates = BASE ** -(torch.arange(0, head_dim, 2, device="cpu") / head_dim)
        self.register_buffer("rates", rates, persistent=False)
        self.rates: Tensor

    def forward(self, x: Tensor, context: Context) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device) if context.positions is None else context.positions
        if places.dim() > 1:
            raise UserError("position 'rotary' takes one place for each token, the same in every row")
        context.memory[ROTARY] = places.float()[:, None] * self.rates.to(x.device)
        return x
