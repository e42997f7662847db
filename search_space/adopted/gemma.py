"""Gemma 2 and 3: a norm before and after each half of a layer (Gemma team 2024). They stay when a half goes."""

from dataclasses import replace

from .llama import FAMILY as LLAMA

FAMILY = replace(
    LLAMA,
    name="gemma",
    model_types=("gemma2", "gemma3_text"),
    no_attention={"self_attn": "attention"},
    no_ffn={"mlp": "zeros"},
)
FAMILIES = (FAMILY,)
