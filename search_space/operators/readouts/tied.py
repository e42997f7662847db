"""One answer per token, by the vectors of the tokens."""

import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import UserError
from ..base import Capabilities, Context, layouts, register
from ..stems.tokens import EMBEDDING


@register("readout", "tied", Capabilities(layouts=layouts("sequence"), causal=True, reads=frozenset({EMBEDDING})))
class Tied(nn.Module):
    """Logits of the vocabulary by the stem's own table: (B, N, D) to (B, N, V) (Press and Wolf 2017, arXiv:1608.05859).

    They are divided by the root of the width (T5, Raffel et al. 2020): the table starts as large as tokens are.
    """

    def __init__(self, width: int, classes: int, vocabulary: int) -> None:
        super().__init__()
        if classes != vocabulary:
            raise UserError(
                f"readout 'tied' gives one output for each of the {vocabulary} tokens of the vocabulary, and the task "
                f"has {classes}; use 'dense'"
            )
        self.scale = width**-0.5

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return F.linear(x[:, context.prefix :] * self.scale, context.memory[EMBEDDING])
