"""Fused projections, concatenation, grouped convolutions, sizes by name."""

import torch
import torch.nn.functional as F
from check_cases import CASES, IMAGES, ROWS, Case, Net, case, width
from check_chains import Residual, stack
from torch import nn


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


class NormedDense(Dense):
    """Each layer behind a norm with running statistics, as in the published net."""

    def __init__(self, stem, growth, layers=3):
        super().__init__(stem, growth, layers)
        self.norms = nn.ModuleList(nn.BatchNorm2d(layer.in_channels) for layer in self.layers)

    def forward(self, x):
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.cat([x, layer(norm(x).relu())], 1)
        return self.head(x.mean((2, 3)))


def normed_dense_net(trial):
    return NormedDense(8, trial.suggest_int("growth", 4, 8, step=2))


NORM_LAYOUTS = {f"norms.{i}.*": [(8,), (i, -1)] for i in (1, 2)}
CASES.append(Case("dense_net_with_norms", True, normed_dense_net, IMAGES, DENSE_LAYOUTS | NORM_LAYOUTS))


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
