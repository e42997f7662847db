"""What the models of a family have in common: where the parts of a layer are, and what their configs can say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from typing import Any

from torch import nn

from ...errors import UserError
from .modeling_narrowed import Parts, Sizes, layers_of, sides_of

MODULES = ("llama", "gemma", "gpt2", "bert", "vit", "t5")
"""One file a family."""


@dataclass(frozen=True, kw_only=True)
class Family(Parts):
    """A list of layers in the models of a family; encoder and decoder are two of the same name.

    model_types: of the configs that are built so. scope: begins the names of the genes.
    config: fields of a config that say a size of all layers, by the size: "heads" (query heads), "kv_heads", "hidden";
        and "layers", how many there are, where `layer_counts` are those of modules.
    cached: the modules whose `layer_idx` addresses the cache; none: the attention. layer_counts: modules of the net,
    and the fields of their configs that say how many layers there are.
    """

    name: str
    model_types: tuple[str, ...]
    config: Mapping[str, str]
    scope: str = ""
    cached: tuple[str, ...] = ()
    layer_counts: tuple[tuple[str, str], ...] = (("", "num_hidden_layers"),)

    @cached_property
    def parts(self) -> dict[str, Any]:
        """The fields of `Parts` as JSON."""
        return {each.name: getattr(self, each.name) for each in fields(Parts)}

    def layers_of(self, net: nn.Module) -> nn.Module:
        """The list of layers. Error: this net has none, or several that may be it."""
        try:
            return layers_of(net, self)
        except ValueError as error:
            raise UserError(str(error)) from None

    def sizes_of(self, layer: nn.Module, head_dim: int) -> Sizes:
        """Of a layer as it is, narrowed or not."""
        kv_heads, group, hidden = 0, 1, 0
        linear = {name: sides_of(part) for name, part in layer.named_modules() if _is_linear(part)}
        if self.output in linear:
            heads = linear[self.output][1] // head_dim
            kv_heads = heads if self.fused else linear[self.key][0] // head_dim
            group = heads // kv_heads
        if self.ffn_out in linear:
            hidden = linear[self.ffn_out][1]
        return Sizes(kv_heads=kv_heads, group=group, head_dim=head_dim, hidden=hidden)


def _is_linear(module: Any) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.dim() == 2


def head_dim_of(config: Any) -> int:
    """Channels of a head, of a config of the transformers library."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads  # type: ignore[no-any-return]


def families() -> Sequence[Family]:
    """All families."""
    return [family for name in MODULES for family in import_module(f".{name}", __package__).FAMILIES]


def family_of(model_type: str) -> Sequence[Family]:
    """The lists of layers of the models with this `model_type` in their config. Error: no family has it."""
    if matching := [family for family in families() if model_type in family.model_types]:
        return matching
    types = ", ".join(sorted({name for family in families() for name in family.model_types}))
    raise UserError(
        f"models of type {model_type!r} belong to no family of nas ({types}); write a space function for yours and "
        "call nas.adopt(module, space_function)"
    )
