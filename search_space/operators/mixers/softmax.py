"""Softmax attention."""

from torch import Tensor

from ..attention import ROTARY, Attention
from ..base import Capabilities, Context, register


@register("mixer", "softmax", Capabilities(causal=True, reads=frozenset({ROTARY})))
class Softmax(Attention):
    """Softmax attention over all tokens, O(N^2) (Vaswani et al. 2017).

    Multi-head, grouped-query, multi-query or sparse-query by its sizes (see `Attention`).
    """

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.attend(*self.project(x), context)
