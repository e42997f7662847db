"""Experts, logarithms, recurrent nets."""

import torch
from check_cases import ROWS, Net, case, width
from check_chains import Residual
from check_joins import GLU
from torch import nn


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
