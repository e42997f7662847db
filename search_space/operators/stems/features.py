"""Numbers of a table to vectors."""

import torch
from torch import Tensor, nn

from ....errors import UserError
from ..base import TOKEN_STD, Capabilities, Context, layouts, register


@register("stem", "features", Capabilities(layouts=layouts("set"), causal=True))
class Features(nn.Module):
    """One token for every feature: its value times a learned vector, plus a learned vector (Gorishniy et al. 2021).

    `input_shape` is (features,).
    """

    def __init__(self, width: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise UserError(f"stem 'features' needs inputs of shape (features,), not {tuple(input_shape)}")
        self.grid: tuple[int, int] | None = None
        self.tokens = input_shape[0]
        self.weight = nn.Parameter(torch.empty(self.tokens, width).normal_(std=TOKEN_STD))
        self.bias = nn.Parameter(torch.empty(self.tokens, width).normal_(std=TOKEN_STD))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        return x[:, :, None] * self.weight + self.bias
