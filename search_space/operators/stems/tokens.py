"""Token numbers to vectors."""

from torch import Tensor, nn

from ....errors import UserError
from ..base import TOKEN_STD, Capabilities, Context, layouts, register

EMBEDDING = "embedding"
"""Name in `context.memory` of the table of token vectors (V, D)."""


@register("stem", "tokens", Capabilities(layouts=layouts("sequence"), causal=True, leaves=frozenset({EMBEDDING})))
class Tokens(nn.Module):
    """One learned vector for every entry of a vocabulary. `input_shape` is (length,)."""

    def __init__(self, width: int, input_shape: tuple[int, ...], vocabulary: int) -> None:
        super().__init__()
        if len(input_shape) != 1 or vocabulary < 1:
            raise UserError(
                f"stem 'tokens' needs input of shape (length,) and a vocabulary of at least 1 token, got "
                f"{tuple(input_shape)} and {vocabulary}; state `vocabulary: N` in the space"
            )
        self.grid: tuple[int, int] | None = None
        self.tokens = input_shape[0]
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=TOKEN_STD)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        context.memory[EMBEDDING] = self.embedding.weight
        y: Tensor = self.embedding(x)
        return y
