"""Images to patches."""

from torch import Tensor, nn

from ....errors import UserError
from ..base import GRID, TOKEN_STD, Capabilities, Context, register


@register("stem", "patch", Capabilities(layouts=GRID, causal=True))
class Patch(nn.Module):
    """One token for every square patch of an image, by one linear map (ViT, Dosovitskiy et al. 2021).

    `input_shape` is (channels, height, width) in pixels. Error: a patch that does not divide the image.
    """

    def __init__(self, width: int, input_shape: tuple[int, ...], patch: int) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise UserError(f"stem 'patch' needs images of shape (channels, height, width), not {tuple(input_shape)}")
        channels, *pixels = input_shape
        if any(n % patch for n in pixels):
            raise UserError(f"patch {patch} does not divide {pixels[0]} x {pixels[1]} pixels; choose a divisor of both")
        self.grid: tuple[int, int] | None = (pixels[0] // patch, pixels[1] // patch)
        self.tokens = self.grid[0] * self.grid[1]
        self.proj = nn.Conv2d(channels, width, patch, patch)
        nn.init.normal_(self.proj.weight, std=TOKEN_STD / (channels * patch * patch) ** 0.5)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        y: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return y
