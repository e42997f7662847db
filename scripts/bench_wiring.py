"""Predictors of quality where the wiring of a net is searched: genes, costs, and paths through the graph.

    python scripts/bench_wiring.py [--steps 1500] [--nets 700] [--points 100] [--draws 5] [--methods ridge pairs ...]

A supernet of cells (six edges between four places, each nothing, the identity, one of two convolutions or a pool;
15,625 nets) is trained on the digits; the logarithm of the loss that random nets inherit (validation and test images)
is predicted from some of them. Printed: Kendall tau of the others, and the root mean square of their errors in stated
standard deviations (1: as stated); means over draws.
"""

import argparse
import warnings
from itertools import combinations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau
from torch import Tensor, nn

import nas
from nas.predictors import Extra, Features, Predictor, Table, cost_columns, method_names, path_columns

WIDTH, OPTIONS = 16, ["none", "skip", "conv1", "conv3", "pool"]
EDGES = list(combinations(range(4), 2))


class Conv(nn.Module):
    def __init__(self, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, WIDTH)
        self.conv = nn.Conv2d(WIDTH, WIDTH, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(x)))


class Cell(nn.Module):
    """Each place is the sum of what the edges into it give; a place without any has nothing to pass on."""

    def __init__(self, chosen: dict[tuple[int, int], str]) -> None:
        super().__init__()
        self.chosen = chosen
        convs = {f"{a}{b}": Conv(int(o[-1])) for (a, b), o in chosen.items() if o.startswith("conv")}
        self.convs = nn.ModuleDict(convs)

    def forward(self, x: Tensor) -> Tensor:
        places: list[Tensor | None] = [x]
        for b in range(1, 4):
            given = [self.edge(a, b, h) for a, h in enumerate(places) if h is not None and self.chosen[a, b] != "none"]
            places.append(sum(given[1:], given[0]) if given else None)
        return x * 0 if places[3] is None else places[3]

    def edge(self, a: int, b: int, x: Tensor) -> Tensor:
        option = self.chosen[a, b]
        if option == "skip":
            return x
        return F.avg_pool2d(x, 3, 1, 1) if option == "pool" else self.convs[f"{a}{b}"](x)


def cells(trial: Any) -> nn.Module:
    chosen = {(a, b): trial.suggest_categorical(f"edge{a}{b}", OPTIONS) for a, b in EDGES}
    readout = [nn.GroupNorm(4, WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10)]
    return nn.Sequential(nn.Conv2d(1, WIDTH, 3, 1, 1), Cell(chosen), Conv(3, 2), Cell(chosen), *readout)


def losses(supernet: nas.Supernet, task: nas.Task, nets: list[nas.Architecture]) -> np.ndarray:
    """Logarithm of the mean cross-entropy over validation and test images."""
    found = []
    for net in nets:
        splits = (task.validation, task.test)
        with torch.no_grad():
            scores = torch.cat([supernet(split.inputs, net) for split in splits])
        targets = torch.cat([split.targets for split in splits])
        found.append(float(task.loss(scores, targets)))
    return np.log(found)


def cell(features: Features, table: Table, y: np.ndarray, method: str, args: argparse.Namespace) -> str:
    taus, spreads = [], []
    for draw in range(args.draws):
        order = np.random.default_rng(draw).permutation(len(y))
        fitted, out = order[: args.points], order[args.points :]
        mean, std = Predictor(features, method).fit(table.rows(fitted), y[fitted]).predict(table.rows(out))
        taus.append(kendalltau(mean, y[out]).statistic)
        spreads.append(np.sqrt(np.mean(((y[out] - mean) / std) ** 2)))
    return f"{np.mean(taus):14.3f} ({np.mean(spreads):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    linear = [name for name in method_names() if name != "products"]  # made for latencies
    for name, default in (("steps", 1500), ("nets", 700), ("points", 100), ("draws", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--methods", nargs="+", choices=linear, default=linear)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    task, space = nas.load_task("digits"), nas.SearchSpace(cells)
    supernet = nas.Supernet(space)
    nas.train(supernet, task, steps=args.steps)
    rng = np.random.default_rng(0)
    nets = list(dict.fromkeys(space.sample(rng) for _ in range(args.nets)))
    y = losses(supernet, task, nets)

    def cost(net: nas.Architecture) -> dict[str, float]:
        return cost_columns(nas.trace_cost(space.skeleton(net), task.example))

    def path(net: nas.Architecture) -> dict[str, float]:
        return path_columns(nas.graph_of(space.skeleton(net), task.example))

    extras: dict[str, Extra | None] = {
        "genes": None,
        "genes, path": path,
        "genes, cost": cost,
        "genes, cost, path": lambda net: cost(net) | path(net),
    }
    columns = {name: Features(space, extra) for name, extra in extras.items()}
    tables = {name: features.table(nets) for name, features in columns.items()}
    print(f"{len(nets)} nets, {args.points} points\n{'':18}" + "".join(f"{name:>21}" for name in columns))
    for method in args.methods:
        found = "".join(cell(columns[name], tables[name], y, method, args) for name in columns)
        print(f"{method:18}{found}", flush=True)


if __name__ == "__main__":
    main()
