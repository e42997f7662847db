"""GPT-2: a pre-norm decoder whose projection of query, key and value is one layer (Radford et al. 2019)."""

from .family import Family

FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    layers="h",
    attention="attn",
    fused="attn.c_attn",
    output="attn.c_proj",
    ffn_in=("mlp.c_fc",),
    ffn_out="mlp.c_proj",
    counts={"num_heads": "kv_heads", "split_size": "channels"},
    no_attention={"attn": "attention", "ln_1": "identity"},
    no_ffn={"mlp": "zeros", "ln_2": "identity"},
    config={"hidden": "n_inner"},
)
FAMILIES = (FAMILY,)
