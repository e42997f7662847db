"""BERT, RoBERTa and MiniLM: post-norm encoders (Devlin et al. 2019)."""

from typing import Any

from torch import nn

from .family import Family
from .narrow import NoAttention, Zeros, replace_modules


def _set_heads(attention: Any, kv_heads: int, group: int) -> None:
    del group
    attention.num_attention_heads = kv_heads
    attention.all_head_size = kv_heads * attention.attention_head_size


def _without_attention(layer: Any) -> None:
    width = layer.attention.output.dense.out_features
    replace_modules(layer, {"attention.self": NoAttention(), "attention.output.dense": Zeros(width)})


def _without_ffn(layer: Any) -> None:
    width = layer.output.dense.out_features
    replace_modules(layer, {"intermediate": nn.Identity(), "output.dense": Zeros(width)})


FAMILY = Family(
    name="bert",
    model_types=("bert", "roberta", "xlm-roberta"),
    layers="encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    ffn_in=("intermediate.dense",),
    ffn_out="output.dense",
    set_heads=_set_heads,
    without_attention=_without_attention,
    without_ffn=_without_ffn,
)
