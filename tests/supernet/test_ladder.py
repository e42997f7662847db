"""Nets from single replacements: the programme is optimal, and each net is what it says."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.errors import UserError
from nas.supernet.adopt.calibration import Calibration
from nas.supernet.adopt.ladder import counted
from nas.supernet.adopt.programme import Replacement, cheapest


@pytest.mark.parametrize("seed", range(5))
def test_the_programme_is_what_brute_force_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = {gene: [(0.0, 0.0), *((float(rng.random()), -float(rng.random())) for _ in range(3))] for gene in "abcd"}
    replacements = [Replacement({g: i}, *pair) for g, pairs in table.items() for i, pair in enumerate(pairs) if i]
    both = Replacement({"a": 9, "b": 9}, 0.1, -0.5)
    saving = 1.2
    picked = cheapest([*replacements, both], saving)
    totals = [
        (sum(p[0] for p in pairs), sum(p[1] for p in pairs))
        for pairs in [
            *product(*table.values()),
            *(((both.loss, both.cost), *rest) for rest in product(table["c"], table["d"])),
        ]
    ]
    best = min(loss for loss, cost in totals if cost <= -saving)
    assert picked is not None
    assert sum(each.loss for each in picked) == pytest.approx(best)
    assert sum(each.cost for each in picked) <= -saving + 1e-9
    names = [name for each in picked for name in each.genes]
    assert len(names) == len(set(names))
    assert cheapest(replacements, 100.0) is None
    assert cheapest(replacements, 0.0) == []


class Residual(nn.Module):
    """Adds up branches, of which some matter more."""

    def __init__(self, widths: dict[int, int]) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.layers = nn.ModuleDict(
            {str(i): nn.Sequential(nn.Linear(4, n), nn.ReLU(), nn.Linear(n, 4)) for i, n in widths.items() if n}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return x + sum(layer(x) for layer in self.layers.values())


def function(trial) -> nn.Module:
    return Residual({i: trial.suggest_categorical(f"layers.{i}.ffn", [0, 4, 8]) for i in range(4)})


def problem() -> tuple[nas.Supernet, nas.Task]:
    torch.manual_seed(0)
    space = nas.SearchSpace(function)
    net = space.build(space.largest).eval()
    with torch.no_grad():
        for i in range(4):
            net.layers[str(i)][2].weight *= 3.0**-i
            net.layers[str(i)][2].weight[:, 4:] *= 0.3
        x = torch.randn(32, 4)
        y = net(x)
    task = nas.Task.of(train=(x, y), validation=(x, y), loss=nn.MSELoss(), metric="mse")
    return nas.adopt(net, space), task


def test_what_matters_least_goes_first() -> None:
    supernet, task = problem()
    rungs = nas.ladder(supernet, task, fractions=[0.8, 0.5, 0.3], samples=32)
    assert [rung.cost for rung in rungs] == sorted((rung.cost for rung in rungs), reverse=True)
    assert counted(supernet.space)(supernet.space.largest) == rungs[0].cost == 4 * (8 * 4 + 8 + 8 * 4 + 4)
    assert all(rung.cost <= f * rungs[0].cost for rung, f in zip(rungs, [1, 0.8, 0.5, 0.3], strict=True))
    calibration = Calibration(supernet, task, 32, batch=4)
    for rung in rungs:
        assert rung.loss == pytest.approx(calibration.loss(rung.architecture))
    count = counted(supernet.space)
    every = [(count(net), calibration.loss(net)) for net in supernet.space.enumerate()]
    for rung, fraction in zip(rungs, [1, 0.8, 0.5, 0.3], strict=True):
        best = min(loss for cost, loss in every if cost <= fraction * rungs[0].cost)
        assert rung.loss <= 1.5 * best + 1e-12


def test_a_ladder_goes_on_from_what_was_measured(tmp_path, monkeypatch) -> None:
    supernet, task = problem()
    first = nas.ladder(supernet, task, fractions=[0.7, 0.4], folder=tmp_path)
    monkeypatch.setattr(Calibration, "loss", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(Calibration, "start_from", lambda *_: pytest.fail("measured again"))
    assert nas.ladder(supernet, task, fractions=[0.7, 0.4], folder=tmp_path) == first
    with torch.no_grad():
        next(iter(supernet.store.parameters())).mul_(2)
    with pytest.raises(pytest.fail.Exception):  # of other weights, other losses
        nas.ladder(supernet, task, fractions=[0.7, 0.4], folder=tmp_path)


def test_a_cost_of_ones_own_and_a_fraction_that_no_net_reaches() -> None:
    supernet, task = problem()
    rungs = nas.ladder(supernet, task, cost=lambda net: 5.0 + sum(v > 0 for v in net.values()), fractions=[0.9, 0.5])
    assert [rung.cost for rung in rungs] == [9.0, 8.0]
    assert rungs[1].architecture["layers.3.ffn"] == 0
    with pytest.raises(UserError, match="fractions must descend"):
        nas.ladder(supernet, task, fractions=[0.5, 0.9])
