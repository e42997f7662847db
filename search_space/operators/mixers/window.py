"""Window attention."""

from torch import Tensor

from ..attention import Attention, softmax_attention
from ..base import GRID, Capabilities, Context, register
from ..partition import from_map, from_windows, to_map, to_windows


@register("mixer", "window", Capabilities(layouts=GRID), genes={"window": [4, 7]})
class Window(Attention):
    """Softmax attention inside square windows of the grid, O(N * window^2) (Swin without the shift, Liu et al. 2021).

    A window that reaches beyond the grid sees the part inside; one as large as the grid is full attention.
    """

    def __init__(self, width: int, kv_heads: int, group: int, head_dim: int, window: int) -> None:
        super().__init__(width, kv_heads, group, head_dim)
        self.window = window

    def forward(self, x: Tensor, context: Context) -> Tensor:
        assert context.grid is not None
        edge = min(self.window, max(context.grid))
        windows, real = to_windows(to_map(x, context), edge)
        y = self.merge(softmax_attention(*self.project(windows), mask=real))
        return from_map(from_windows(y, edge, context.grid), context)
