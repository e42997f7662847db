"""Depthwise convolution as a mixer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import UserError
from ..base import GRID, Capabilities, Context, register
from ..partition import from_map, to_map

LARGEST = 255
"""Kernel that reaches from edge to edge of a grid of 128 x 128 tokens."""


def ring_order(kernel: int) -> list[int]:
    """For each tap of the kernel, row by row: its place when taps are listed ring by ring from the centre outwards."""
    half = kernel // 2
    offsets = [(row, column) for row in range(-half, half + 1) for column in range(-half, half + 1)]
    ranked = sorted(offsets, key=lambda at: (max(abs(at[0]), abs(at[1])), at))
    places = {at: place for place, at in enumerate(ranked)}
    return [places[at] for at in offsets]


@register("mixer", "conv", Capabilities(layouts=GRID), genes={"kernel": [3, 5, 7]})
class Conv(nn.Module):
    """Depthwise convolution on the grid with an odd kernel (the mixer of ConvNeXt, Liu et al. 2022).

    The kernel is kept as square rings around its centre: 1, 8, 16, 24 taps. A smaller kernel has fewer rings, so it is
    the centre of the larger one, and a shared weight means the same offset in every net. The corner of a k x k tensor
    would mean another offset in each, and taps along a dimension would look like an axis that can be permuted.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise UserError(f"mixer 'conv' needs an odd kernel, not {kernel}; give {kernel - 1} or {kernel + 1}")
        if kernel > LARGEST:
            raise UserError(f"mixer 'conv' needs a kernel of at most {LARGEST}, not {kernel}")
        self.kernel = kernel
        bound = 1 / kernel  # as nn.Conv2d: one over the root of the fan-in
        taps = [1, *(8 * ring for ring in range(1, kernel // 2 + 1))]
        self.rings = nn.ParameterList([nn.Parameter(torch.empty(width, n).uniform_(-bound, bound)) for n in taps])
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("order", torch.tensor(ring_order(kernel), device="cpu"), persistent=False)
        self.order: Tensor

    def forward(self, x: Tensor, context: Context) -> Tensor:
        y = to_map(x, context)
        taps = torch.cat(list(self.rings), 1)[:, self.order.to(x.device)]
        weight = taps.reshape(-1, 1, self.kernel, self.kernel)
        return from_map(F.conv2d(y, weight, self.bias, padding=self.kernel // 2, groups=len(taps)), context)
