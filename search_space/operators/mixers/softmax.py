"""Softmax attention."""

from torch import Tensor

from ..attention import Attention, softmax_attention
from ..base import Capabilities, Context, register


@register("mixer", "softmax", Capabilities(causal=True))
class Softmax(Attention):
    """Softmax attention over all tokens, O(N^2) (Vaswani et al. 2017).

    Multi-head, grouped-query, multi-query or sparse-query by its sizes (see `Attention`).
    """

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.merge(softmax_attention(*self.project(x), mask=context.mask, causal=context.causal))
