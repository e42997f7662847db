"""Search algorithms side by side: hypervolume after 200, 500 and 2,000 evaluations, and what an algorithm costs itself.

    python scripts/bench_search.py [--problems DIR] [--only NAME ...] [--algorithms NAME ...] [--evaluations 2000]

DIR holds a module `problems` with `Cat40(seed)` and `HWGPT(scale, device)`: `dims` (options of each variable), `kinds`
("cat", "int") and `F(X)`, two losses for each row of option indices. In HW-GPT-Bench variables are sizes, ordered but
for the bias, and a layer beyond the depth has none. Without DIR: a digits supernet whose 5,292 nets (widths, subsets of
layers, two mixers, three FFN sizes) are all evaluated first: inherited validation accuracy, predicted latency.
`weakest:SEED` is made here: 30 sizes in 6 groups, a net is as good as the weakest group, costs add up.
Printed: median hypervolume over the seeds (reference 1.1, 1.1), and milliseconds of CPU per evaluation.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import nas
from nas.search.algorithms import algorithms, load_algorithm
from nas.search.evaluation import Evaluation
from nas.search.pareto import hypervolume

MARKS = (200, 500, 2000)
DIGITS = {
    "patch": 2,
    "width": [32, 48, 64],
    "layers": 4,
    "least_layers": 2,
    "kv_heads": 2,
    "mixer": ["softmax", "conv"],
    "ffn_ratio": [0.125, 0.5, 1],
    "genes": {"kernel": 3},
}


@dataclass(frozen=True)
class Problem:
    name: str
    space: nas.GeneSpace
    losses: Callable[[list[nas.Architecture]], np.ndarray]


def cat40(module: Any, seed: int) -> Problem:
    problem = module.Cat40(seed)
    each = zip(problem.dims, problem.kinds, strict=True)
    options = [list(range(d)) if kind == "int" else list(map(str, range(d))) for d, kind in each]
    space = nas.GeneSpace({f"v{i}": values for i, values in enumerate(options)})
    return Problem(f"cat40:{seed}", space, lambda nets: problem.F([[int(net[g]) for g in space.genes] for net in nets]))


def hwgpt(module: Any, scale: str, device: str) -> Problem:
    problem = module.HWGPT(scale, device)
    most = problem.Lmax
    layers = [[f"layers.{i}.mlp" for i in range(most)], [f"layers.{i}.heads" for i in range(most)]]
    names = ["embed", "depth", *layers[0], *layers[1], "bias"]

    def function(trial: Any) -> torch.nn.Module:
        trial.suggest_int("embed", 0, 2)
        for i in range(most - 2 + trial.suggest_int("depth", 0, 2)):
            trial.suggest_int(layers[0][i], 0, 2)
            trial.suggest_int(layers[1][i], 0, 2)
        trial.suggest_categorical("bias", ["0", "1"])
        return torch.nn.Identity()

    def losses(nets: list[nas.Architecture]) -> np.ndarray:
        return np.asarray(problem.F([[int(net.get(name, 0)) for name in names] for net in nets]), dtype=float)

    return Problem(f"{scale}:{device}", nas.SearchSpace(function), losses)


def digits() -> Problem:
    task, device = nas.load_task("digits"), nas.load_device("jetson-orin")
    options = nas.TransformerSpace(**DIGITS)
    space = nas.SearchSpace(options.bind(input_shape=task.input_shape, classes=task.classes))
    supernet = nas.Supernet(space)
    nas.train(supernet, task, steps=400)
    nets = list(space.enumerate())
    costs = [nas.trace_cost(space.skeleton(net), task.example, device.precision) for net in nets]
    points = [
        (1 - nas.evaluate_subnet(supernet, task, n), device.latency(c).value) for n, c in zip(nets, costs, strict=True)
    ]
    scaled = (np.array(points) - np.min(points, axis=0)) / np.ptp(points, axis=0)
    table = dict(zip(nets, scaled, strict=True))
    print(f"digits: {len(table):,} nets, true hypervolume {hypervolume(scaled, [1.1, 1.1]):.4f}")
    return Problem("digits", space, lambda nets: np.array([table[net] for net in nets]))


def weakest(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    gain, price = rng.gamma(2.0, 1.0, (6, 5)), rng.gamma(2.0, 1.0, (6, 5))
    space = nas.GeneSpace({f"groups.{i}.size{j}": list(range(5)) for i in range(6) for j in range(5)})

    def losses(nets: list[nas.Architecture]) -> np.ndarray:
        sizes = np.array([[float(net[g]) for g in space.genes] for net in nets]).reshape(len(nets), 6, 5) / 4
        quality = ((gain * sizes).sum(2) / gain.sum(1)).min(1)
        return np.stack([1 - quality, (price * sizes**1.3).sum((1, 2)) / price.sum()], axis=1)

    return Problem(f"weakest:{seed}", space, losses)


def run(
    problem: Problem, name: str, evaluations: int, seed: int, marks: tuple[int, ...] = MARKS
) -> tuple[list[float], float]:
    """Hypervolume at the marks, and milliseconds of CPU in the algorithm per evaluation."""
    algorithm, known, spent = load_algorithm(name), [], 0.0
    while len(known) < evaluations:
        start = time.process_time()
        asked = algorithm.ask(problem.space, known, algorithm.batch, np.random.default_rng([seed, len(known)]))
        spent += time.process_time() - start
        if not asked:
            break
        losses = problem.losses(asked)
        known += [Evaluation(a, {}, tuple(map(float, row)), (), False) for a, row in zip(asked, losses, strict=True)]
    points = np.array([e.losses for e in known])
    return [hypervolume(points[:mark], [1.1, 1.1]) for mark in marks if mark <= evaluations], 1e3 * spent / len(known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", help="folder of the module `problems`")
    parser.add_argument("--only", nargs="+", default=["cat40:0", "s:a100", "m:cpu_xeon_gold"], help="NAME:ARGUMENT")
    parser.add_argument("--algorithms", nargs="+", default=[a for a in algorithms() if a != "linas"])
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--marks", type=int, nargs="+", default=MARKS)
    args = parser.parse_args()
    own = [only for only in args.only if only.startswith("weakest:")]
    made = [weakest(int(only[8:])) for only in own] or ([digits()] if args.problems is None else [])
    if args.problems is not None:
        sys.path.insert(0, args.problems)
        import problems

        for name, _, rest in (only.partition(":") for only in args.only if only not in own):
            made.append(cat40(problems, int(rest)) if name == "cat40" else hwgpt(problems, name, rest))
    for problem in made:
        for name in args.algorithms:
            runs = [run(problem, name, args.evaluations, seed, tuple(args.marks)) for seed in range(args.seeds)]
            medians = " ".join(f"{value:.4f}" for value in np.median([r[0] for r in runs], axis=0))
            cost = np.mean([r[1] for r in runs])
            print(f"{problem.name:20} {name:14} {medians}   {cost:8.3f} ms per evaluation", flush=True)


if __name__ == "__main__":
    main()
