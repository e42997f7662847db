"""Graphs of nets: known answers, and that they say what the cost says."""

from collections.abc import Callable
from typing import Any

import example_spaces
import networkx as nx
import pytest
import torch
from torch import Tensor, nn

import nas
from nas.errors import UserError
from nas.hw_profiles import graph_of, trace_cost

LARGE = {"vit-mobile", "matlm"}


def is_the_graph_of(graph: "nx.DiGraph[int]", net: nn.Module, example: Tensor) -> None:
    cost, nodes = trace_cost(net, example), [data for _, data in graph.nodes(data=True)]
    assert nx.is_directed_acyclic_graph(graph)
    assert all(maker < reader for maker, reader in graph.edges)
    for total in ("flops", "params"):
        assert sum(node[total] for node in nodes) == getattr(cost, total)
    assert sum(node["bytes_read"] + node["bytes_written"] for node in nodes) == cost.bytes
    kinds = [node["kind"] for node in nodes]
    assert (kinds[0], kinds[-1]) == ("input", "output")
    assert len(nodes) == cost.kernels + kinds.count("input") + 1


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in nas.preset_names()])
def test_presets(name: str) -> None:
    function = example_spaces.preset_function(name)
    space = nas.SearchSpace(function)
    example = torch.zeros(1, *function.input_shape, dtype=torch.long if function.vocabulary else torch.float32)
    for architecture in (space.smallest, space.sample(0), space.largest):
        graph = graph_of(space.skeleton(architecture), example)
        is_the_graph_of(graph, space.skeleton(architecture), example)
        assert nx.ancestors(graph, max(graph)) == set(graph) - {max(graph)}  # nothing is computed in vain


@pytest.mark.parametrize(
    ("function", "example"),
    [
        (example_spaces.vit, torch.zeros(1, 1, 8, 8)),
        (example_spaces.gpt, torch.zeros(1, 8, dtype=torch.long)),
        (example_spaces.rnn, torch.zeros(1, 5, 4)),
    ],
)
def test_plain_modules_of_a_user(function: Callable[[Any], nn.Module], example: Tensor) -> None:
    space = nas.SearchSpace(function)
    for net in (space.skeleton(space.largest), space.build(space.sample(0))):
        is_the_graph_of(graph_of(net, example), net, example)


class Residual(nn.Module):
    """x + down(relu(up(x))), seen through views."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu()).reshape(1, 3, 4)


def test_a_residual_net() -> None:
    graph = graph_of(Residual(), torch.zeros(3, 4))
    assert [name for _, name in graph.nodes(data="name")] == ["input", "linear", "relu", "linear", "add", "output"]
    assert sorted(graph.edges) == [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert graph.nodes[1] == {
        "name": "linear",
        "kind": "matmul",
        "shape": (3, 8),
        "flops": 2 * 3 * 4 * 8,
        "bytes_read": 4 * (3 * 4 + 8 * 4 + 8),
        "bytes_written": 4 * 3 * 8,
        "params": 8 * 4 + 8,
        "weights": ("up.weight", "up.bias"),
    }
    assert (graph.nodes[3]["weights"], graph.nodes[3]["params"]) == (("down.weight",), 32)
    assert (graph.nodes[0]["shape"], graph.nodes[5]["shape"]) == ((3, 4), (1, 3, 4))


def test_a_module_that_runs_twice_has_two_operators_and_its_weights_once() -> None:
    layer = nn.Linear(4, 4)
    graph = graph_of(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 4))
    assert [graph.nodes[n]["weights"] for n in (1, 3)] == [("0.weight", "0.bias")] * 2
    assert [graph.nodes[n]["params"] for n in (1, 3)] == [20, 0]


def edges(forward: Callable[..., Any], *inputs: Tensor) -> list[tuple[int, int]]:
    class Net(nn.Module):
        def forward(self, *arguments: Tensor) -> Any:
            return forward(*arguments)

    return sorted(graph_of(Net(), inputs).edges)


X = torch.zeros(2, 4)


def test_what_is_written_in_place_is_made_by_who_wrote_last() -> None:
    assert edges(lambda x: x.exp().add_(x).relu_(), X) == [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4)]


def test_a_tensor_that_is_filled_piece_by_piece_has_all_of_them_for_makers() -> None:
    def halves(x: Tensor) -> Tensor:
        out = x.new_empty(4, 4)
        out[:2], out[2:] = x.exp(), x.sin()
        return out.cos()

    # 1 exp, 2 sin, 3 and 4 copies of them into the halves, 5 cos
    assert edges(halves, X) == [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5), (5, 6)]


def test_constants_several_inputs_and_several_outputs() -> None:
    def net(x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return x * torch.arange(4, device="cpu"), {"y": y.exp(), "x": x}

    # 0 and 1 the inputs, 2 arange, 3 mul, 4 exp, 5 the outputs
    assert edges(net, X, X) == [(0, 3), (0, 5), (1, 4), (2, 3), (3, 5), (4, 5)]


def test_the_last_state_of_a_recurrent_layer_comes_from_it() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(4, 8, num_layers=2)

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            last: Tensor = self.gru(x, state)[1]
            return last

    graph = graph_of(Last(), (torch.zeros(3, 1, 4), torch.zeros(2, 1, 8)))
    assert sorted(graph.edges) == [(0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]


def branches(trial: Any) -> nn.Module:
    """Two branches whose order does not matter to the sum, and a choice that changes nothing."""
    first = trial.suggest_categorical("first", ["relu", "wide"])
    trial.suggest_categorical("name", ["a", "b"])

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.relu = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            if first == "wide":
                return self.wide(x) + self.relu(x)
            return self.relu(x) + self.wide(x)

    return Sum()


def test_the_same_net_has_the_same_graph() -> None:
    space = nas.SearchSpace(branches)
    graphs = [graph_of(space.skeleton(a), X) for a in space.enumerate()]
    assert len(graphs) == 4
    for other in graphs[1:]:
        assert nx.is_isomorphic(graphs[0], other, node_match=lambda a, b: a == b)
    narrow = graph_of(Residual(), torch.zeros(3, 4))
    assert not nx.is_isomorphic(graphs[0], narrow)


def test_a_forward_that_reads_values_has_no_graph() -> None:
    class Peeking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(UserError, match="values"):
        graph_of(Peeking(), X)
