"""Tokens as a map, and maps as windows: the one place that knows how a grid is laid out and cut.

Letters: B batch, N tokens, D width, R rows, S columns, W windows, E edge of a window.

Prefix tokens (CLS, registers) have no place on the map. An operator on maps gives each of them the mean of its outputs
over the map: they see what the grid saw, so a CLS readout has something to read even in a net of such operators alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Context


def to_map(x: Tensor, context: Context) -> Tensor:
    """(B, prefix + N, D) to (B, D, R, S) on a grid, (B, D, N) on a sequence; prefix tokens are left out."""
    y = x[:, context.prefix :].transpose(1, 2)
    return y if context.grid is None else y.reshape(*y.shape[:2], *context.grid)


def from_map(y: Tensor, context: Context) -> Tensor:
    """Back to (B, prefix + N, D); each prefix token is the mean over the map."""
    tokens = y.flatten(2).transpose(1, 2)
    if not context.prefix:
        return tokens
    return torch.cat([tokens.mean(1, keepdim=True).expand(-1, context.prefix, -1), tokens], 1)


def to_windows(x: Tensor, edge: int) -> tuple[Tensor, Tensor | None]:
    """Cut a map (B, D, R, S) into windows (B*W, E*E, D), and say which of their tokens are real: (B*W, E*E) bool.

    A map that the edge does not divide is padded below and on the right; where nothing was padded there is no mask.
    """
    down, right = -x.shape[2] % edge, -x.shape[3] % edge
    if not down and not right:
        return _cut(x, edge), None
    real = x.new_ones(x.shape[0], 1, x.shape[2], x.shape[3])
    pad = (0, right, 0, down)
    return _cut(F.pad(x, pad), edge), _cut(F.pad(real, pad), edge).squeeze(-1) > 0


def _cut(x: Tensor, edge: int) -> Tensor:
    channels, rows, columns = x.shape[1:]
    y = x.reshape(-1, channels, rows // edge, edge, columns // edge, edge)
    return y.permute(0, 2, 4, 3, 5, 1).reshape(-1, edge * edge, channels)


def from_windows(windows: Tensor, edge: int, grid: tuple[int, int]) -> Tensor:
    """Windows (B*W, E*E, D) back to a map (B, D, R, S); padding is cropped."""
    down, across = -(-grid[0] // edge), -(-grid[1] // edge)
    channels = windows.shape[-1]
    y = windows.reshape(-1, down, across, edge, edge, channels).permute(0, 5, 1, 3, 2, 4)
    y = y.reshape(-1, channels, down * edge, across * edge)
    return y[:, :, : grid[0], : grid[1]]
