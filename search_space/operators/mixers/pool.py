"""Average pooling as a mixer."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Capabilities, Context, layouts, register
from ..partition import from_map, to_map


@register("mixer", "pool", Capabilities(layouts=layouts("grid", "sequence")))
class Pool(nn.Module):
    """Mean of the 3 x 3 neighbours (3 on a sequence) minus the token; no parameters (PoolFormer, Yu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        del width

    def forward(self, x: Tensor, context: Context) -> Tensor:
        y = to_map(x, context)
        pool = F.avg_pool1d if context.grid is None else F.avg_pool2d
        return from_map(pool(y, 3, stride=1, padding=1, count_include_pad=False) - y, context)
