"""The CLS token as the answer."""

from torch import Tensor, nn

from ..base import Capabilities, Context, register


@register("readout", "cls", Capabilities(needs_prefix=True))
class Cls(nn.Module):
    """A linear map of the first prefix token: (B, N, D) to (B, classes). Not causal: that token would see nothing."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        y: Tensor = self.head(x[:, 0])
        return y
