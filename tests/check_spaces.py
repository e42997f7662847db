"""Small spaces whose weight sharing is known to be right or wrong, for the test of `space.check`.

Each entry: name, whether every small net is a sub-network, the space function, an example, and layouts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

TOKENS = torch.zeros(2, 6, dtype=torch.long)  # all equal: the check draws its own
ROWS = torch.zeros(2, 5, 12)
IMAGES = torch.zeros(2, 3, 8, 8)


@dataclass(frozen=True)
class Case:
    name: str
    right: bool
    function: Callable[[Any], nn.Module]
    example: Any
    layouts: Mapping[str, Any] = field(default_factory=dict)


CASES: list[Case] = []


def case(right: bool, example: Any, name: str = "", **layouts: Any) -> Callable[[Callable[[Any], nn.Module]], Any]:
    def add(function: Callable[[Any], nn.Module]) -> Callable[[Any], nn.Module]:
        CASES.append(
            Case(
                name or function.__name__,
                right,
                function,
                example,
                {k.replace("__", "."): v for k, v in layouts.items()},
            )
        )
        return function

    return add


class Net(nn.Module):
    """Parts by name and a function of (parts, inputs): a model in one line."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.ModuleList(part) if isinstance(part, list) else part)
        self.run = forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def width(trial, low=8, high=24, step=8):
    return trial.suggest_int("width", low, high, step=step)


# Plain chains, norms, activations


@case(True, ROWS)
def mlp(trial):
    w = width(trial)
    return nn.Sequential(nn.Linear(12, w), nn.GELU(), nn.Linear(w, 3))


@case(True, ROWS)
def sigmoid_has_no_zero(trial):
    w = width(trial)
    return nn.Sequential(nn.Linear(12, w), nn.Sigmoid(), nn.Linear(w, w), nn.Softplus(), nn.Linear(w, 3))


@case(True, ROWS)
def layer_norm_over_the_width(trial):
    w = width(trial)
    return nn.Sequential(nn.Linear(12, w), nn.LayerNorm(w), nn.Linear(w, 3))


@case(True, ROWS)
def functional_norms(trial):
    w = width(trial)
    return Net(
        lambda m, x: m.o(F.rms_norm(F.layer_norm(m.i(x), (m.i.out_features,)), (m.i.out_features,))),
        i=nn.Linear(12, w),
        o=nn.Linear(w, 3),
    )


class OwnRMSNorm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.g = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6).to(x.dtype) * self.g


class OwnLayerNorm(nn.Module):
    def __init__(self, n, dim=-1, spread="var"):
        super().__init__()
        self.dim, self.spread = dim, spread
        self.w, self.b = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))

    def forward(self, x):
        u = x.mean(self.dim, keepdim=True)
        if self.spread == "var":
            s = (x - u).pow(2).mean(self.dim, keepdim=True)
            y = (x - u) / torch.sqrt(s + 1e-6)
        else:
            y = (x - u) / (x.std(self.dim, keepdim=True) + 1e-6)
        shape = (1, -1, 1, 1) if self.dim == 1 else (-1,)
        return y * self.w.view(shape) + self.b.view(shape)


@case(True, ROWS)
def rms_norm_by_hand(trial):
    w = width(trial)
    return nn.Sequential(nn.Linear(12, w), OwnRMSNorm(w), nn.Linear(w, 3))


@case(True, ROWS)
def layer_norm_by_hand_with_std(trial):
    w = width(trial)
    return nn.Sequential(nn.Linear(12, w), OwnLayerNorm(w, spread="std"), nn.Linear(w, 3))


@case(True, IMAGES)
def layer_norm_of_channels_by_hand(trial):
    w = width(trial)
    return nn.Sequential(nn.Conv2d(3, w, 3), OwnLayerNorm(w, dim=1), nn.Conv2d(w, 4, 1))


@case(True, IMAGES)
def group_norm(trial):
    w = width(trial)
    return nn.Sequential(nn.Conv2d(3, w, 3), nn.GroupNorm(4, w), nn.ReLU(), nn.Conv2d(w, 4, 1))


@case(True, IMAGES)
def group_norm_by_groups(trial):
    g = trial.suggest_categorical("groups", [1, 2, 4])
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(g, 8), nn.ReLU(), nn.Conv2d(8, 4, 1))


@case(True, IMAGES)
def batch_norm(trial):
    w = width(trial)
    return nn.Sequential(nn.Conv2d(3, w, 3), nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 4, 1))


@case(True, IMAGES)
def squeeze_and_excite(trial):
    w, r = width(trial), trial.suggest_int("reduced", 2, 4)
    return Net(
        lambda m, x: m.o((y := m.i(x)) * torch.sigmoid(m.up(F.relu(m.down(y.mean((2, 3), keepdim=True)))))),
        i=nn.Conv2d(3, w, 3),
        down=nn.Conv2d(w, r, 1),
        up=nn.Conv2d(r, w, 1),
        o=nn.Conv2d(w, 4, 1),
    )


@case(True, ROWS)
def mean_over_the_width(trial):
    w = width(trial)
    return Net(lambda m, x: m.i(x).relu().mean(-1), i=nn.Linear(12, w))


@case(True, ROWS)
def softmax_over_the_width(trial):
    w = width(trial)
    return nn.Sequential(nn.Linear(12, w), nn.Softmax(-1), nn.Linear(w, 3))


@case(True, ROWS)
def softmax_written_by_hand(trial):
    w = width(trial)

    def forward(m, x):
        e = m.i(x).sigmoid()
        return m.o(e / e.sum(-1, keepdim=True))

    return Net(forward, i=nn.Linear(12, w), o=nn.Linear(w, 3))


@case(True, ROWS)
def the_output_carries_the_width(trial):
    w = width(trial)
    return Net(lambda m, x: {"features": m.i(x), "mean": m.i(x).sum(-1)}, i=nn.Linear(12, w))


@case(True, ROWS)
def divided_by_a_parameter(trial):
    w = width(trial)
    net = Net(lambda m, x: m.o(m.i(x) / m.v.sqrt()), i=nn.Linear(12, w), o=nn.Linear(w, 3))
    net.v = nn.Parameter(torch.ones(w))
    return net


@case(True, ROWS)
def weight_norm(trial):
    w = width(trial)
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(12, w)),
        nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Linear(w, 3)),
    )


@case(True, TOKENS)
def sinusoids_in_a_buffer(trial):
    w = width(trial)
    net = Net(lambda m, x: m.o(m.e(x) + m.table), e=nn.Embedding(9, w), o=nn.Linear(w, 3))
    angles = torch.arange(6.0)[:, None] / 100 ** (torch.arange(w) / w)
    net.register_buffer("table", torch.where(torch.arange(w) % 2 == 0, angles.sin(), angles.cos()))
    return net


@case(True, TOKENS)
def tied_embeddings(trial):
    w = width(trial)
    net = Net(lambda m, x: m.o(m.e(x) * w**0.5), e=nn.Embedding(9, w), o=nn.Linear(w, 9, bias=False))
    net.o.weight = net.e.weight
    return net


# Depth


class Residual(nn.Module):
    def __init__(self, w, post=False, h=16):
        super().__init__()
        self.norm, self.up, self.down, self.post = nn.LayerNorm(w), nn.Linear(w, h), nn.Linear(h, w), post

    def forward(self, x):
        if self.post:
            return self.norm(x + self.down(F.gelu(self.up(x))))
        return x + self.down(F.gelu(self.up(self.norm(x))))


def stack(layers, w=12, head=True):
    def forward(m, x):
        for layer in m.layers:
            x = layer(x)
        return m.head(x) if head else x

    return Net(forward, layers=layers, head=nn.Linear(w, 3) if head else nn.Identity())


@case(True, ROWS)
def residual_depth(trial):
    return stack([Residual(12) for _ in range(trial.suggest_int("depth", 1, 4))])


@case(True, ROWS)
def post_norm_depth_without_a_head(trial):
    return stack([Residual(12, post=True) for _ in range(trial.suggest_int("depth", 1, 3))], head=False)


@case(True, ROWS)
def plain_depth_with_a_head(trial):
    layers = [nn.Sequential(nn.Linear(12, 12), nn.GELU()) for _ in range(trial.suggest_int("depth", 1, 3))]
    return stack(layers)


@case(True, ROWS)
def flat_body_with_a_head(trial):
    body = [m for _ in range(trial.suggest_int("depth", 1, 3)) for m in (nn.Linear(12, 12), nn.GELU())]
    return Net(lambda m, x: m.head(m.body(x)), body=nn.Sequential(*body), head=nn.Linear(12, 3))


@case(True, ROWS)
def lstm_layers(trial):
    h, n = trial.suggest_int("hidden", 8, 16, step=8), trial.suggest_int("layers", 1, 2)
    return Net(lambda m, x: m.o(m.r(x)[0]), r=nn.LSTM(12, h, n, batch_first=True), o=nn.Linear(h, 3))


@case(True, ROWS)
def different_ffn_in_each_layer(trial):
    return stack([Residual(12, h=trial.suggest_int(f"layers.{i}.ffn", 8, 24, step=8)) for i in range(3)])


@case(False, ROWS)
def sequential_head_is_renamed(trial):
    d = trial.suggest_int("depth", 1, 3)
    return nn.Sequential(*[Residual(12) for _ in range(d)], nn.Linear(12, 3))


@case(False, ROWS)
def sequential_last_norm_is_renamed(trial):
    d = trial.suggest_int("depth", 1, 3)
    hidden = [m for _ in range(d) for m in (nn.Linear(12, 12), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(12, 12), nn.LayerNorm(12))


@case(False, ROWS)
def head_is_a_corner_of_a_hidden_layer(trial):
    d = trial.suggest_int("depth", 1, 3)
    return nn.Sequential(*[m for _ in range(d) for m in (nn.Linear(12, 12), nn.ReLU())], nn.Linear(12, 5))


@case(False, ROWS)
def head_is_as_large_as_a_hidden_layer(trial):
    d = trial.suggest_int("depth", 1, 3)
    return nn.Sequential(*[m for _ in range(d) for m in (nn.Linear(12, 12), nn.GELU())], nn.Linear(12, 12))


@case(False, ROWS)
def last_of_a_list_is_the_head(trial):
    layers = [nn.Linear(12, 12) for _ in range(trial.suggest_int("depth", 2, 3))]

    def forward(m, x):
        for layer in m.layers[:-1]:
            x = layer(x).relu()
        return m.layers[-1](x)

    return Net(forward, layers=layers)


# Fused projections and concatenation


class GLU(nn.Module):
    def __init__(self, h, interleaved=False):
        super().__init__()
        self.w12, self.w3, self.interleaved = nn.Linear(12, 2 * h), nn.Linear(h, 12), interleaved

    def forward(self, x):
        y = self.w12(x)
        a, b = (y[..., ::2], y[..., 1::2]) if self.interleaved else y.chunk(2, -1)
        return x + self.w3(F.silu(a) * b)


@case(False, ROWS)
def gates_side_by_side(trial):
    return GLU(trial.suggest_int("hidden", 8, 24, step=8))


@case(False, ROWS)
def gates_side_by_side_in_two_units(trial):
    return GLU(8 * trial.suggest_int("m", 1, 2))


CASES.append(Case("gates_with_a_layout", True, gates_side_by_side, ROWS, {"w12.*": (2, -1)}))
CASES.append(Case("gates_with_a_wrong_layout", False, gates_side_by_side, ROWS, {"w12.weight": (2, -1)}))


@case(True, ROWS)
def interleaved_gates(trial):
    return GLU(trial.suggest_int("hidden", 8, 24, step=8), interleaved=True)


CASES.append(Case("interleaved_gates_with_a_layout", False, interleaved_gates, ROWS, {"w12.*": (2, -1)}))


@case(False, ROWS)
def gate_only_under_the_second_alternative(trial):
    if trial.suggest_categorical("ffn", ["mlp", "swiglu"]) == "swiglu":
        return GLU(trial.suggest_int("hidden", 8, 24, step=8))
    return Residual(12, h=trial.suggest_int("hidden", 8, 24, step=8))


@case(False, ROWS)
def gate_only_as_a_condition(trial):
    if trial.suggest_categorical("gated", [False, True]):
        return GLU(trial.suggest_int("gates", 8, 24, step=8))
    return Residual(12)


@case(False, ROWS)
def size_by_name(trial):
    return GLU({"small": 8, "large": 16}[trial.suggest_categorical("size", ["large", "small"])])


@case(False, ROWS)
def size_by_name_small_first(trial):
    return GLU({"small": 8, "large": 16}[trial.suggest_categorical("size", ["small", "large"])])


@case(False, ROWS)
def size_by_boolean(trial):
    return GLU(16 if trial.suggest_categorical("big", [True, False]) else 8)


@case(True, ROWS)
def plain_size_by_name(trial):
    return Residual(12, h={"s": 8, "m": 16, "l": 32}[trial.suggest_categorical("size", ["s", "m", "l"])])


@case(True, ROWS)
def depth_and_size_by_name(trial):
    h, d = {"s": (8, 1), "l": (16, 3)}[trial.suggest_categorical("size", ["l", "s"])]
    return stack([Residual(12, h=h) for _ in range(d)])


@case(False, ROWS)
def depth_and_gates_by_name(trial):
    h, d = {"s": (8, 1), "l": (16, 3)}[trial.suggest_categorical("size", ["l", "s"])]
    return stack([GLU(h) for _ in range(d)])


@case(True, ROWS)
def alternatives_of_one_shape(trial):
    act = {"relu": nn.ReLU, "gelu": nn.GELU}[trial.suggest_categorical("act", ["relu", "gelu"])]
    return nn.Sequential(nn.Linear(12, 16), act(), nn.Linear(16, 3))


@case(True, ROWS)
def alternatives_by_number(trial):
    k = trial.suggest_categorical("kernel", [3, 5])
    convs = nn.ModuleDict({f"k{k}": nn.Conv1d(12, 12, k, padding=k // 2)})
    return Net(lambda m, x: m.o(next(iter(m.convs.values()))(x.mT).mT), convs=convs, o=nn.Linear(12, 3))


def concatenated(a, b):
    return Net(
        lambda m, x: m.o(torch.cat([m.a(x).relu(), m.b(x).tanh()], -1)),
        a=nn.Linear(12, a),
        b=nn.Linear(12, b),
        o=nn.Linear(a + b, 3),
    )


@case(False, ROWS)
def concat_of_equals(trial):
    w = width(trial)
    return concatenated(w, w)


CASES.append(Case("concat_of_equals_with_a_layout", True, concat_of_equals, ROWS, {"o.weight": {1: (2, -1)}}))


@case(False, ROWS)
def concat_with_a_fixed_part_behind(trial):
    return concatenated(width(trial), 5)


@case(True, ROWS)
def concat_with_a_fixed_part_before(trial):
    return concatenated(5, width(trial))


SEGMENTS = {"o.weight": {1: [(-1,), (5,)]}}
CASES.append(Case("concat_of_unequals_with_segments", True, concat_with_a_fixed_part_behind, ROWS, SEGMENTS))


class Dense(nn.Module):
    def __init__(self, stem, growth, layers=3):
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(stem + i * growth, growth, 3, padding=1) for i in range(layers))
        self.head = nn.Linear(stem + layers * growth, 4)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        return self.head(x.mean((2, 3)))


@case(False, IMAGES)
def dense_net(trial):
    return Dense(8, trial.suggest_int("growth", 4, 8, step=2))


DENSE_LAYOUTS = {
    "layers.*.weight": lambda conv: {1: [(8,), (-1, conv.out_channels)]},
    "head.weight": {1: [(8,), (3, -1)]},
}
CASES.append(Case("dense_net_with_segments", True, dense_net, IMAGES, DENSE_LAYOUTS))


@case(False, IMAGES)
def dense_net_stem(trial):
    return Dense(trial.suggest_int("stem", 4, 8, step=2), 6)


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.down, self.mid = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 2 * c, 3, padding=1)
        self.up, self.join, self.out = (
            nn.ConvTranspose2d(2 * c, c, 2, 2),
            nn.Conv2d(2 * c, c, 3, padding=1),
            nn.Conv2d(c, 2, 1),
        )

    def forward(self, x):
        a = F.relu(self.down(x))
        b = F.relu(self.mid(F.max_pool2d(a, 2)))
        return self.out(F.relu(self.join(torch.cat([self.up(b), a], 1))))


@case(False, IMAGES)
def u_net(trial):
    return UNet(trial.suggest_int("c", 4, 12, step=4))


CASES.append(Case("u_net_with_a_layout", True, u_net, IMAGES, {"join.weight": {1: (2, -1)}}))


@case(True, IMAGES)
def flatten_channels_first(trial):
    w = width(trial)
    return nn.Sequential(nn.Conv2d(3, w, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * w, 3))


@case(False, IMAGES)
def flatten_channels_last(trial):
    w = width(trial)
    return Net(
        lambda m, x: m.o(m.i(x).relu().permute(0, 2, 3, 1).flatten(1)),
        i=nn.Conv2d(3, w, 3, 2, 1),
        o=nn.Linear(16 * w, 3),
    )


CASES.append(
    Case("flatten_channels_last_with_a_layout", True, flatten_channels_last, IMAGES, {"o.weight": {1: (16, -1)}})
)


def grouped_convolution(w, groups):
    return nn.Sequential(nn.Conv2d(3, w, 1), nn.Conv2d(w, w, 3, padding=1, groups=groups), nn.Conv2d(w, 4, 1))


@case(True, IMAGES)
def groups_of_fixed_width(trial):
    w = width(trial)
    return grouped_convolution(w, w // 4)


@case(True, IMAGES)
def depthwise(trial):
    w = width(trial)
    return grouped_convolution(w, w)


@case(False, IMAGES)
def fixed_number_of_groups(trial):
    return grouped_convolution(width(trial), 4)


GROUPS = {"0.*": (4, -1), "1.*": (4, -1), "2.weight": {1: (4, -1)}}
CASES.append(Case("fixed_number_of_groups_with_a_layout", True, fixed_number_of_groups, IMAGES, GROUPS))


@case(False, IMAGES)
def channel_shuffle(trial):
    w = width(trial)
    shuffle = nn.ChannelShuffle(2)
    return Net(
        lambda m, x: m.o(shuffle(m.g(m.i(x)))),
        i=nn.Conv2d(3, w, 1),
        g=nn.Conv2d(w, w, 3, groups=2),
        o=nn.Conv2d(w, 4, 1),
    )


@case(False, IMAGES)
def kernel_is_a_corner(trial):
    k = trial.suggest_categorical("kernel", [3, 5])
    return nn.Sequential(nn.Conv2d(3, 8, k, padding=k // 2), nn.ReLU(), nn.Conv2d(8, 4, 1))


@case(True, IMAGES)
def dilation_moves_nothing(trial):
    d = trial.suggest_int("dilation", 1, 2)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=d, dilation=d), nn.ReLU(), nn.Conv2d(8, 4, 1))


@case(True, ROWS)
def dropout_moves_nothing(trial):
    p = trial.suggest_float("dropout", 0.0, 0.4, step=0.1)
    return nn.Sequential(nn.Linear(12, 8), nn.Dropout(p), nn.Linear(8, 3))


# Attention


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


# Experts, logs


class Experts(nn.Module):
    def __init__(self, w, h, n, k):
        super().__init__()
        self.k, self.i, self.router, self.o = k, nn.Linear(12, w), nn.Linear(w, n), nn.Linear(w, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(w, h), nn.GELU(), nn.Linear(h, w)) for _ in range(n))

    def forward(self, x):
        x = self.i(x)
        flat = x.flatten(0, 1)
        weight, which = self.router(flat).softmax(-1).topk(self.k, -1)
        y = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            row, column = torch.where(which == e)
            y = y.index_add(0, row, expert(flat[row]) * weight[row, column, None])
        return self.o(x + y.view_as(x))


@case(True, ROWS)
def experts(trial):
    h, n = trial.suggest_categorical("hidden", [8, 16]), trial.suggest_int("experts", 2, 4)
    return Experts(width(trial), h, n, 2)


@case(True, ROWS)
def routed_to_fewer(trial):
    return Experts(8, 8, 4, trial.suggest_int("k", 1, 2))


@case(False, ROWS)
def log_of_a_parameter(trial):
    net = Net(lambda m, x: m.glu(x) * m.t.log(), glu=GLU(width(trial)))
    net.t = nn.Parameter(torch.ones(12))
    return net


@case(True, ROWS)
def log_of_a_parameter_rightly(trial):
    net = Net(lambda m, x: m.r(x) * m.t.log(), r=Residual(12, h=width(trial)))
    net.t = nn.Parameter(torch.ones(12))
    return net


@case(True, ROWS)
def gru(trial):
    h = trial.suggest_int("hidden", 8, 16, step=8)
    return Net(lambda m, x: m.o(m.r(x)[0]), r=nn.GRU(12, h, batch_first=True), o=nn.Linear(h, 3))


@case(False, ROWS)
def gru_in_both_directions(trial):
    h = trial.suggest_int("hidden", 8, 16, step=8)
    return Net(
        lambda m, x: m.o(m.r(x)[0]), r=nn.GRU(12, h, batch_first=True, bidirectional=True), o=nn.Linear(2 * h, 3)
    )


@case(True, ROWS)
def lstm_cell(trial):
    h = trial.suggest_int("hidden", 8, 16, step=8)

    def forward(m, x):
        state = None
        for i in range(x.shape[1]):
            state = m.c(x[:, i], state)
        return m.o(state[0])

    return Net(forward, c=nn.LSTMCell(12, h), o=nn.Linear(h, 3))
