"""Linear attention."""

import torch.nn.functional as F
from torch import Tensor

from ..attention import Attention
from ..base import Context, register


@register("mixer", "linear")
class LinearAttention(Attention):
    """Linear attention, O(N), with elu + 1 in place of the softmax (Katharopoulos et al. 2020, arXiv:2006.16236)."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        q, k, v = self.project(x)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        if context.mask is not None:
            k = k * context.mask[:, None, :, None]
        # Summing over the tokens first is what makes it linear: (B, K, 1, C, C) does not grow with N.
        summary = (k.transpose(2, 3) @ v).unsqueeze(2)
        weights = k.sum(2)[:, :, None, :, None]  # (B, K, 1, C, 1)
        return self.merge(q @ summary / (q @ weights + 1e-6))
