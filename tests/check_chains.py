"""Chains, norms and depth."""

import torch
import torch.nn.functional as F
from check_cases import IMAGES, ROWS, TOKENS, Net, case, width
from torch import nn


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
