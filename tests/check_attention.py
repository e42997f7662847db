"""Heads and attention."""

import torch
import torch.nn.functional as F
from check_cases import CASES, ROWS, TOKENS, Case, Net, case, width
from check_chains import stack
from check_joins import GLU
from torch import nn


class Attention(nn.Module):
    def __init__(self, w, heads, dim, fused=False, kv=None, bias=False, by_hand=False):
        super().__init__()
        self.heads, self.dim, self.kv, self.by_hand = heads, dim, kv or heads, by_hand
        rows = [heads * dim, self.kv * dim, self.kv * dim]
        self.rows = rows
        if fused:
            self.qkv = nn.Linear(w, sum(rows))
        else:
            self.q, self.k, self.v = (nn.Linear(w, n) for n in rows)
        self.o = nn.Linear(heads * dim, w)
        self.table = nn.Parameter(torch.randn(9, heads)) if bias else None
        self.norm = nn.LayerNorm(w)

    def forward(self, x):
        h = self.norm(x)
        parts = self.qkv(h).split(self.rows, -1) if hasattr(self, "qkv") else (self.q(h), self.k(h), self.v(h))
        q, k, v = (t.unflatten(-1, (-1, self.dim)).transpose(1, 2) for t in parts)
        k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
        n = x.shape[1]
        bias = 0 if self.table is None else self.table[torch.arange(n)[:, None] - torch.arange(n) + 4].permute(2, 0, 1)
        if self.by_hand:
            y = (q @ k.mT / self.dim**0.5 + bias).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, None if self.table is None else bias[None])
        return x + self.o(y.transpose(1, 2).flatten(2))


def attention(w=12, **fields):
    return nn.Sequential(nn.Linear(12, w), Attention(w, **fields), nn.Linear(w, 3))


@case(True, ROWS)
def heads(trial):
    return attention(heads=trial.suggest_int("heads", 2, 4), dim=4)


@case(True, ROWS)
def heads_with_a_table_of_biases(trial):
    return attention(heads=trial.suggest_int("heads", 2, 4), dim=4, bias=True)


@case(True, ROWS)
def heads_are_the_width_over_four(trial):
    w = width(trial)
    return attention(w, heads=w // 4, dim=4, by_hand=True)


@case(True, ROWS)
def key_value_heads_in_blocks(trial):
    kv = trial.suggest_int("kv", 1, 3)
    return attention(heads=2 * kv, kv=kv, dim=4)


@case(False, ROWS)
def query_heads_of_fixed_key_value_heads(trial):
    return attention(heads=2 * trial.suggest_int("group", 1, 2), kv=2, dim=4)


CASES.append(
    Case(
        "query_heads_with_a_layout",
        True,
        query_heads_of_fixed_key_value_heads,
        ROWS,
        {"1.q.*": (2, -1, 4), "1.o.weight": {1: (2, -1, 4)}},
    )
)


@case(False, ROWS)
def fixed_heads_of_the_width(trial):
    w = width(trial, 8, 16, 8)
    return attention(w, heads=4, dim=w // 4)


HEADS = {"1.[qkv].*": (4, -1), "1.o.weight": {1: (4, -1)}}
CASES.append(Case("fixed_heads_with_a_layout", True, fixed_heads_of_the_width, ROWS, HEADS))


@case(False, ROWS)
def fixed_heads_in_two_units(trial):
    m = trial.suggest_int("m", 2, 4, step=2)
    return attention(4 * m, heads=4, dim=m)


@case(False, ROWS)
def fused_qkv(trial):
    return attention(heads=trial.suggest_int("heads", 1, 3), dim=4, fused=True)


CASES.append(Case("fused_qkv_with_a_layout", True, fused_qkv, ROWS, {"*.qkv.*": (3, -1)}))


@case(False, ROWS)
def number_of_heads_at_a_fixed_width(trial):
    h = trial.suggest_categorical("heads", [2, 4])
    return attention(heads=h, dim=16 // h)


@case(False, ROWS)
def torch_heads_at_a_fixed_width(trial):
    h = trial.suggest_categorical("heads", [2, 4])
    return Net(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(12, h, batch_first=True))


@case(True, ROWS)
def torch_encoder(trial):
    f, d = trial.suggest_int("ffn", 8, 24, step=8), trial.suggest_int("depth", 1, 2)
    layer = nn.TransformerEncoderLayer(12, 2, f, batch_first=True)
    return nn.TransformerEncoder(layer, d, enable_nested_tensor=False)


@case(True, {"tgt": ROWS, "src": torch.zeros(2, 7, 12)}, name="keywords")
def torch_transformer(trial):
    return nn.Transformer(12, 2, 1, 1, trial.suggest_int("ffn", 8, 24, step=8), batch_first=True)


@case(False, (TOKENS, torch.zeros(2, 6, 12)), name="two_inputs_and_the_second_output_wrong")
def two_inputs(trial):
    w = width(trial)
    return Net(lambda m, ids, x: (m.o(m.e(ids)), m.glu(x)), e=nn.Embedding(9, w), o=nn.Linear(w, 3), glu=GLU(w))


@case(False, TOKENS)
def attention_over_equal_tokens(trial):
    h = trial.suggest_int("heads", 1, 3)
    net = attention(heads=h, dim=4, fused=True)
    return Net(lambda m, x: m.n(m.e(x)), e=nn.Embedding(9, 12), n=net)


class Conv1D(nn.Module):
    """A linear layer with a transposed weight, as GPT-2 has it."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


class GPT2Attention(nn.Module):
    def __init__(self, heads):
        super().__init__()
        w = 12 * heads
        self.heads, self.c_attn, self.c_proj = heads, Conv1D(3 * w, w), Conv1D(w, w)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, 12)).transpose(1, 2) for t in self.c_attn(x).chunk(3, -1))
        return self.c_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def gpt2(trial):
    h = trial.suggest_int("heads", 1, 3)
    return Net(
        lambda m, x: m.o(m.attn(m.e(x))), e=nn.Embedding(9, 12 * h), attn=GPT2Attention(h), o=nn.Linear(12 * h, 3)
    )


CASES += [
    Case("transposed_weight", False, gpt2, TOKENS),
    Case("transposed_weight_with_the_rule_of_linear", False, gpt2, TOKENS, {"*.c_attn.*": (3, -1)}),
    Case(
        "transposed_weight_with_its_rule",
        True,
        gpt2,
        TOKENS,
        {"*.c_attn.weight": {1: (3, -1)}, "*.c_attn.bias": (3, -1)},
    ),
]


class Causal(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(w, w) for _ in range(3))

    def forward(self, x):
        n = x.shape[1]
        scores = self.q(x) @ self.k(x).mT / x.shape[-1] ** 0.5
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        return x + scores.masked_fill(hidden, -torch.finfo(x.dtype).max).softmax(-1) @ self.v(x)


@case(True, ROWS)
def causal_depth(trial):
    return stack([Causal(12) for _ in range(trial.suggest_int("depth", 1, 2))])


class CachedBias(nn.Module):
    """A table of biases for each head, looked up once in evaluation and kept in an attribute, as LeViT does."""

    def __init__(self, heads, dim=4):
        super().__init__()
        self.heads, self.dim, self.cache = heads, dim, {}
        self.q, self.o, self.table = nn.Linear(12, heads * dim), nn.Linear(heads * dim, 12), nn.Linear(1, heads)

    def forward(self, x):
        if "bias" not in self.cache:
            self.cache["bias"] = self.table(torch.ones(1, dtype=x.dtype))
        y = self.q(x).unflatten(-1, (self.heads, self.dim)) * self.cache["bias"][:, None]
        return x + self.o(y.flatten(2))


@case(True, ROWS)
def cached_bias(trial):
    return nn.Sequential(CachedBias(trial.suggest_int("heads", 1, 3)), nn.Linear(12, 3))
