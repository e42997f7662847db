"""Llama and its relatives: pre-norm decoders with gated FFNs and grouped queries (Touvron et al. 2023)."""

from .family import Family

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
    counts={"num_key_value_groups": "group"},
    no_attention={"self_attn": "attention", "input_layernorm": "identity"},
    no_ffn={"mlp": "zeros", "post_attention_layernorm": "identity"},
    config={"heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "hidden": "intermediate_size"},
)
FAMILIES = (FAMILY,)
