"""Tiny random models of the transformers library, and supernets of them."""

from functools import cache

import pytest
import torch
from torch import nn

import nas

transformers = pytest.importorskip("transformers")
TOKENS = 64
KINDS = ("llama", "gpt2", "bert")


@cache
def model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": TOKENS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind == "llama":
        layers = {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 64}
        config = transformers.LlamaConfig(
            **sizes, **layers, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True
        )
        return transformers.LlamaForCausalLM(config).eval()
    if kind == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, n_embd=24, n_layer=3, n_head=3)).eval()
    layers = {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 64, "num_attention_heads": 3}
    return transformers.BertModel(transformers.BertConfig(**sizes, **layers)).eval()


@cache
def supernet(kind: str) -> nas.Supernet:
    return nas.adopt(model(kind))


def tokens(rows: int = 2, length: int = 9) -> torch.Tensor:
    return torch.randint(1, TOKENS, (rows, length), generator=torch.Generator().manual_seed(1))
