"""The general transformer as a module: one skeleton with slots that operators fill.

Letters: B batch, N tokens, D width, P prefix tokens.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .operators.base import Context


class Block(nn.Module):
    """One layer: a mixer and an FFN, each behind its norm, beside a residual. A branch that is None is not there."""

    def __init__(
        self, mixer_norm: nn.Module | None, mixer: nn.Module | None, ffn_norm: nn.Module | None, ffn: nn.Module | None
    ) -> None:
        super().__init__()
        self.mixer_norm, self.mixer = mixer_norm, mixer
        self.ffn_norm, self.ffn = ffn_norm, ffn

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if self.mixer_norm is not None and self.mixer is not None:
            x = x + self.mixer(self.mixer_norm(x, context), context)
        if self.ffn_norm is not None and self.ffn is not None:
            x = x + self.ffn(self.ffn_norm(x, context), context)
        return x


class Transformer(nn.Module):
    """Stem, positions, prefix, layers, norm, readout. `layers` are keyed by their index in the supernet.

    A layer keeps its key whichever others are left out, so every subset of layers shares weights with every other.
    `prefix` (P, D) holds the tokens that stand before the others (CLS); learned as they are, they get no position.
    """

    def __init__(
        self,
        stem: nn.Module,
        position: nn.Module,
        layers: Mapping[int, Block],
        norm: nn.Module,
        readout: nn.Module,
        *,
        prefix: nn.Parameter | None = None,
        grid: tuple[int, int] | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.stem, self.position, self.prefix = stem, position, prefix
        self.layers = nn.ModuleDict({str(index): block for index, block in layers.items()})
        self.norm, self.readout = norm, readout
        self.grid, self.causal = grid, causal

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of a batch (B, ...): (B, classes), or what else the readout gives."""
        context = Context(grid=self.grid, causal=self.causal)
        x = self.position(self.stem(x, context), context)
        if self.prefix is not None:
            context.prefix = len(self.prefix)
            x = torch.cat([self.prefix.expand(x.shape[0], -1, -1), x], 1)
        for index, block in self.layers.items():
            context.layer = int(index)
            x = block(x, context)
        y: Tensor = self.readout(self.norm(x, context), context)
        return y
