"""No positions."""

from torch import Tensor, nn

from ..base import NONE, Capabilities, Context, register


@register("position", NONE, Capabilities(causal=True))
class NoPosition(nn.Module):
    """Leaves the tokens as they are: for sets, or where mixers know the place by themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        del width

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        return x
