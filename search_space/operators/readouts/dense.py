"""One answer per token."""

from torch import Tensor, nn

from ..base import Capabilities, Context, register


@register("readout", "dense", Capabilities(causal=True))
class Dense(nn.Module):
    """A linear map of every token but the prefix: (B, N, D) to (B, N, classes) (language models, segmentation)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        y: Tensor = self.head(x[:, context.prefix :])
        return y
