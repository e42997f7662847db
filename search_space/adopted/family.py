"""What the models of a family have in common: where the parts of a layer are, and how they are narrowed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from ...errors import UserError
from .narrow import module_named, resize

MODULES = ("llama", "gpt2", "bert")
"""One file a family."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Paths are those of modules, from a layer on.

    model_types: of the configs that are built so. layers: the end of the name of the list of layers.
    attention: the module whose `layer_idx` addresses the cache. query, key, value, output: linear layers.
    fused: the one layer that computes query, key and value, in the place of three.
    ffn_in: linear layers whose outputs are the hidden channels; ffn_out: the layer that reads them.
    set_heads: tells an attention module how many key/value heads it has, and how many queries share one.
    without_attention, without_ffn: leave out this half of a layer.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str
    attention: str
    output: str
    ffn_in: tuple[str, ...]
    ffn_out: str
    set_heads: Callable[[Any, int, int], None]
    without_attention: Callable[[nn.Module], None]
    without_ffn: Callable[[nn.Module], None]
    query: str = ""
    key: str = ""
    value: str = ""
    fused: str = ""

    def layers_of(self, net: nn.Module) -> nn.Module:
        """The list of layers."""
        return module_named(net, self.layers)

    def narrow_attention(self, layer: nn.Module, kv_heads: int, group: int, head_dim: int) -> None:
        """Keep this many key/value heads, and query heads that share each."""
        queries = (kv_heads, group, head_dim) if group > 1 or not self.fused else (kv_heads, head_dim)
        if self.fused:
            resize(layer.get_submodule(self.fused), (3, *queries))
        else:
            resize(layer.get_submodule(self.query), queries)
            for name in (self.key, self.value):
                resize(layer.get_submodule(name), (kv_heads, head_dim))
        resize(layer.get_submodule(self.output), inputs=queries)
        self.set_heads(layer.get_submodule(self.attention), kv_heads, group)

    def narrow_ffn(self, layer: nn.Module, hidden: int) -> None:
        """Keep this many hidden channels."""
        for name in self.ffn_in:
            resize(layer.get_submodule(name), (hidden,))
        resize(layer.get_submodule(self.ffn_out), inputs=(hidden,))


def families() -> Sequence[Family]:
    """All families."""
    return [import_module(f".{name}", __package__).FAMILY for name in MODULES]


def family_of(model_type: str) -> Family:
    """The family of a config's `model_type`. Error: none has it."""
    for family in families():
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(name for family in families() for name in family.model_types))
    raise UserError(
        f"models of type {model_type!r} belong to no family of nas ({known}); write a space function for yours and "
        "call nas.adopt(module, space_function)"
    )
