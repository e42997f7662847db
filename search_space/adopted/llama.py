"""Llama and its relatives: pre-norm decoders with gated FFNs and grouped queries (Touvron et al. 2023)."""

from typing import Any

from torch import nn

from .family import Family
from .narrow import NoAttention, Zeros, replace_modules


def _set_heads(attention: Any, kv_heads: int, group: int) -> None:
    del kv_heads
    attention.num_key_value_groups = group


def _without_attention(layer: nn.Module) -> None:
    replace_modules(layer, {"self_attn": NoAttention(), "input_layernorm": nn.Identity()})


def _without_ffn(layer: Any) -> None:
    width = layer.mlp.down_proj.out_features
    replace_modules(layer, {"mlp": Zeros(width), "post_attention_layernorm": nn.Identity()})


FAMILY = Family(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3"),
    layers="layers",
    attention="self_attn",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    output="self_attn.o_proj",
    ffn_in=("mlp.gate_proj", "mlp.up_proj"),
    ffn_out="mlp.down_proj",
    set_heads=_set_heads,
    without_attention=_without_attention,
    without_ffn=_without_ffn,
)
