"""The mean of the tokens as the answer."""

from torch import Tensor, nn

from ..base import Capabilities, Context, register


@register("readout", "mean", Capabilities(causal=True))
class Mean(nn.Module):
    """A linear map of the mean over the tokens (prefix tokens and padding are left out): (B, N, D) to (B, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        tokens = x[:, context.prefix :]
        if context.mask is None:
            mean = tokens.mean(1)
        else:
            real = context.mask[:, context.prefix :, None].to(x)
            mean = (tokens * real).sum(1) / real.sum(1).clamp(min=1)
        y: Tensor = self.head(mean)
        return y
