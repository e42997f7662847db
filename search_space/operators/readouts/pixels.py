"""One answer per pixel, where tokens are patches."""

from torch import Tensor, nn
from torch.nn import functional as F

from ..base import GRID, Capabilities, Context, register


@register("readout", "pixels", Capabilities(layouts=GRID, causal=True))
class Pixels(nn.Module):
    """A linear map of every patch to its pixels: (B, N, D) to (B, classes, H, W) (pixel shuffle, Shi et al. 2016)."""

    def __init__(self, width: int, classes: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.head = nn.Linear(width, classes * patch * patch)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        rows, columns = context.grid or (1, x.shape[1] - context.prefix)
        y = self.head(x[:, context.prefix :]).transpose(1, 2).unflatten(2, (rows, columns))
        return F.pixel_shuffle(y, self.patch)
