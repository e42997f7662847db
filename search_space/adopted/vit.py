"""ViT, DeiT and DINO: pre-norm encoders of image patches (Dosovitskiy et al. 2021; Oquab et al. 2023)."""

from dataclasses import replace

from .family import Family

VIT = Family(
    name="vit",
    model_types=("vit", "deit"),
    layers="layers",
    attention="attention",
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    output="attention.o_proj",
    ffn_in=("mlp.fc1",),
    ffn_out="mlp.fc2",
    counts={"num_attention_heads": "kv_heads"},
    no_attention={"attention": "attention"},
    no_ffn={"mlp": "zeros"},
    config={"hidden": "intermediate_size"},
)
DINO = replace(VIT, name="dinov2", model_types=("dinov2",), layers="encoder.layer", config={})
FAMILIES = (VIT, DINO)
