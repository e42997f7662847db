"""Tiny random models of the transformers library, and supernets of them."""

from functools import cache

import pytest
import torch
from torch import nn

import nas

transformers = pytest.importorskip("transformers")
TOKENS = 64
SPECIAL = {"vocab_size": TOKENS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
SIZES = {"hidden_size": 24, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 3}
GROUPED = {**SPECIAL, **SIZES, "num_attention_heads": 6, "num_key_value_heads": 2}
IMAGES = {**SIZES, "image_size": 8, "patch_size": 4}
T5 = {**SPECIAL, "d_model": 24, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 3, "decoder_start_token_id": 0}
CONFIGS = {
    "LlamaForCausalLM": lambda: transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "Qwen2ForCausalLM": lambda: transformers.Qwen2Config(**GROUPED),
    "Qwen3ForCausalLM": lambda: transformers.Qwen3Config(**GROUPED, head_dim=8),
    "Gemma3ForCausalLM": lambda: transformers.Gemma3TextConfig(
        **GROUPED,
        head_dim=8,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "GPT2LMHeadModel": lambda: transformers.GPT2Config(**SPECIAL, n_embd=24, n_layer=3, n_head=3),
    "BertModel": lambda: transformers.BertConfig(**SPECIAL, **SIZES),
    "RobertaForMaskedLM": lambda: transformers.RobertaConfig(**SPECIAL, **SIZES),
    "ViTForImageClassification": lambda: transformers.ViTConfig(**IMAGES, num_labels=5),
    "Dinov2Model": lambda: transformers.Dinov2Config(**{**IMAGES, "mlp_ratio": 2}),
    "T5ForConditionalGeneration": lambda: transformers.T5Config(**T5),
    "MT5ForConditionalGeneration": lambda: transformers.MT5Config(**T5, feed_forward_proj="gated-gelu"),
}
GENERATIVE = [name for name in CONFIGS if name.endswith(("LMHeadModel", "CausalLM", "Generation"))]


@cache
def model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    net = getattr(transformers, kind)(CONFIGS[kind]()).eval()
    for parameter in net.parameters():  # zeros and ones, as norms and biases have at first, would hide errors
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


@cache
def supernet(kind: str) -> nas.Supernet:
    return nas.adopt(model(kind))


def tokens(rows: int = 2, length: int = 9) -> torch.Tensor:
    return torch.randint(1, TOKENS, (rows, length), generator=torch.Generator().manual_seed(1))


def inputs(kind: str) -> dict[str, torch.Tensor]:
    if "image_size" in model(kind).config.to_dict():
        return {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))}
    others = {"decoder_input_ids": tokens(2, 5)} if "T5" in kind else {}
    return {"input_ids": tokens(), **others}
