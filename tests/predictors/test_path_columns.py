"""What the wiring of a net tells a predictor."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

import nas
from nas.predictors import Features, Predictor, cost_columns, path_columns

X = torch.zeros(1, 4)


class Cell(nn.Module):
    """Three linear layers, one after the other or beside each other: each reads the input or the one before."""

    def __init__(self, chained: tuple[bool, bool]) -> None:
        super().__init__()
        self.chained = chained
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        made = [self.layers[0](x)]
        for layer, chained in zip(list(self.layers)[1:], self.chained, strict=True):
            made.append(layer(made[-1] if chained else x))
        return made[0] + made[1] + made[2]


def columns(*chained: bool) -> dict[str, float]:
    return path_columns(nas.graph_of(Cell((chained[0], chained[1])), X))


def test_the_heaviest_path_is_the_sum_over_what_runs_one_after_the_other() -> None:
    linear, add = 2 * 4 * 4, 4
    moved = 4 * (4 + 16 + 4) + 4 * 4  # a linear layer: input, weight, bias; output
    added = 4 * 3 * 4
    for chained, (layers, adds) in {(False, False): (1, 2), (True, False): (2, 2), (True, True): (3, 1)}.items():
        assert columns(*chained) == {
            "path.kernels": layers + adds,
            "path.bytes": layers * moved + adds * added,
            "path.flops": layers * linear + adds * add,
        }


def test_nets_of_the_same_operators_differ_in_their_paths_alone() -> None:
    beside, chained = (Cell((c, c)) for c in (False, True))
    assert cost_columns(nas.trace_cost(beside, X)) == cost_columns(nas.trace_cost(chained, X))
    assert path_columns(nas.graph_of(beside, X))["path.flops"] < path_columns(nas.graph_of(chained, X))["path.flops"]


def test_inputs_that_reach_no_output_cost_nothing() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.exp().sin()
            return torch.ones(3, device=x.device)

    assert path_columns(nas.graph_of(Constant(), X))["path.flops"] <= 3


def wired(trial: Any) -> nn.Module:
    """Six layers, each of which reads the input or what an earlier one made."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sources = [trial.suggest_categorical(f"source{i}", [*map(str, range(i + 1))]) for i in range(1, 6)]
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

        def forward(self, x: Tensor) -> Tensor:
            made = [x, self.layers[0](x)]
            for layer, source in zip(list(self.layers)[1:], self.sources, strict=True):
                made.append(layer(made[int(source)]))
            return torch.cat(made, -1)

    return Net()


@pytest.mark.parametrize("method", ["ridge", "pairs"])
def test_they_tell_a_predictor_what_genes_do_not(method: str) -> None:
    """A quality that grows with depth: a path through the wiring, which is no sum over genes."""
    space = nas.SearchSpace(wired)
    rng = np.random.default_rng(0)
    nets = list(dict.fromkeys(space.sample(rng) for _ in range(150)))
    paths = {net: path_columns(nas.graph_of(space.skeleton(net), X)) for net in nets}
    quality = np.log([paths[net]["path.kernels"] for net in nets]) + rng.normal(0, 0.05, len(nets))
    found = []
    for features in (Features(space), Features(space, lambda net: paths[net])):
        fitted = Predictor(features, method).fit(nets[:50], quality[:50])
        found.append(kendalltau(fitted.predict(nets[50:])[0], quality[50:]).statistic)
    assert found[1] > found[0] + 0.1
