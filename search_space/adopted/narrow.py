"""Removing layers of a list in place."""

from collections.abc import Sequence

from torch import nn


def keep_layers(layers: nn.Module, kept: Sequence[int]) -> None:
    """Remove the other layers of an `nn.ModuleList` or `nn.Sequential`; those kept keep their names."""
    for name in list(layers._modules):
        if int(name) not in kept:
            del layers._modules[name]
