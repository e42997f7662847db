"""The general transformer as a module: one skeleton with slots that operators fill.

Letters: B batch, N tokens, D width, P prefix tokens.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from .operators.base import Context
from .stages import Stage, Staged

State = tuple[Tensor, Context]
"""Tokens (B, P + N, D) and what they are accompanied by."""


class Block(Staged):
    """One layer: a mixer and an FFN, each behind its norm, beside a residual. A branch that is None is not there.

    From a state to a state; each branch is a stage, so that nets with the same mixer and another FFN share the mixer.
    """

    def __init__(
        self, mixer_norm: nn.Module | None, mixer: nn.Module | None, ffn_norm: nn.Module | None, ffn: nn.Module | None
    ) -> None:
        super().__init__()
        self.mixer_norm, self.mixer = mixer_norm, mixer
        self.ffn_norm, self.ffn = ffn_norm, ffn

    def stages(self) -> list[Stage]:
        branches = (self.mixer_norm, self.mixer), (self.ffn_norm, self.ffn)
        return [partial(_add_branch, norm, f) for norm, f in branches if norm is not None and f is not None]


class Transformer(Staged):
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

    def stages(self) -> list[Stage]:
        embed = partial(_embed, self.stem, self.position, self.prefix, self.grid, self.causal)
        layers = ((partial(_enter_layer, int(key)), block) for key, block in self.layers.items())
        return [embed, *(stage for layer in layers for stage in layer), partial(_read, self.norm, self.readout)]


def _embed(
    stem: nn.Module,
    position: nn.Module,
    prefix: nn.Parameter | None,
    grid: tuple[int, int] | None,
    causal: bool,
    x: Tensor,
) -> State:
    context = Context(grid=grid, causal=causal)
    x = position(stem(x, context), context)
    if prefix is not None:
        context.prefix = len(prefix)
        x = torch.cat([prefix.expand(len(x), -1, -1), x], 1)
    return x, context


def _enter_layer(layer: int, state: State) -> State:
    state[1].layer = layer
    return state


def _add_branch(norm: nn.Module, operator: nn.Module, state: State) -> State:
    x, context = state
    return x + operator(norm(x, context), context), context


def _read(norm: nn.Module, readout: nn.Module, state: State) -> Tensor:
    x, context = state
    y: Tensor = readout(norm(x, context), context)
    return y
