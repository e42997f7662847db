"""GPT-2: a pre-norm decoder whose projection of query, key and value is one layer (Radford et al. 2019)."""

from typing import Any

from torch import nn

from .family import Family
from .narrow import NoAttention, Zeros, replace_modules


def _set_heads(attention: Any, kv_heads: int, group: int) -> None:
    del group
    attention.num_heads = kv_heads
    attention.split_size = kv_heads * attention.head_dim


def _without_attention(layer: nn.Module) -> None:
    replace_modules(layer, {"attn": NoAttention(), "ln_1": nn.Identity()})


def _without_ffn(layer: Any) -> None:
    replace_modules(layer, {"mlp": Zeros(layer.mlp.c_proj.nf), "ln_2": nn.Identity()})


FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    layers="h",
    attention="attn",
    fused="attn.c_attn",
    output="attn.c_proj",
    ffn_in=("mlp.c_fc",),
    ffn_out="mlp.c_proj",
    set_heads=_set_heads,
    without_attention=_without_attention,
    without_ffn=_without_ffn,
)
