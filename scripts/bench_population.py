"""Evaluating a population together against one net after the other: the same numbers, in less time.

    python scripts/bench_population.py [--samples 2000] [--steps 100] [--evaluations 150] [--batches 10 40]

A 12-layer space on Fashion-MNIST. Populations: what NSGA-II asks for during a search (accuracy against FLOPs), in its
own batches; mutants of that search's front (its own rate: 0.3 genes in the mean, one at least; parents in turns, none
of them in the population); random nets. Every population is evaluated in both ways, first one and then the other in
turns; each way has a supernet of its own with the same weights, so that neither finds the other's caches warm.
Printed: nets per CPU second of each, the ratio of the summed times, and the quartiles of the ratios, pair by pair.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

import nas
from nas.search.algorithms.nsga2 import NSGA2

GENES = {
    "mixer": ["softmax", "linear", "pool"],
    "kv_heads": [1, 2],
    "group": [1, 2],
    "ffn_ratio": [0.125, 0.25, 0.5, 1],
}
SPACES = {"one width": {"width": 64}, "three widths": {"width": [32, 48, 64]}}


@dataclass
class Pairs:
    """CPU seconds (a shared machine disturbs them less) of each pair of evaluations of the same nets."""

    alone: Callable[[nas.Architecture], float]
    together: Callable[[list[nas.Architecture]], list[float]]
    nets: int = 0
    seconds: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, nets: list[nas.Architecture]) -> list[float]:
        """The numbers; they must be equal to the bit."""
        ways = [lambda: [self.alone(a) for a in nets], lambda: self.together(nets)]
        results: list[list[float]] = [[], []]
        seconds = [0.0, 0.0]
        for way in (0, 1) if len(self.seconds) % 2 else (1, 0):
            start = time.process_time()
            results[way] = ways[way]()
            seconds[way] = time.process_time() - start
        assert results[0] == results[1], "the two ways disagree"
        self.seconds.append((seconds[0], seconds[1]))
        self.nets += len(nets)
        return results[0]

    def line(self, name: str, last: int = 0) -> str:
        """`last`: only that many pairs (0: all)."""
        seconds = np.array(self.seconds)[-last:]
        nets, (alone, together) = self.nets * len(seconds) / len(self.seconds), seconds.sum(0)
        low, middle, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75])
        return (
            f"{name:42} {nets / alone:9.2f} {nets / together:9.2f} {alone / together:7.2f}"
            f"   {low:.2f} {middle:.2f} {high:.2f} ({len(seconds)})"
        )


def supernets(widths: dict[str, object], task: nas.Task, steps: int) -> list[nas.Supernet]:
    """A trained supernet and its twin."""
    space = nas.TransformerSpace(patch=7, layers=12, least_layers=6, head_dim=16, **GENES, **widths)
    pair = [nas.Supernet(nas.SearchSpace(space.bind(task.input_shape, task.classes))) for _ in range(2)]
    nas.train(pair[0], task, nas.Recipe(steps=steps))
    pair[1].load_state_dict(pair[0].state_dict())
    return pair


def front_of(
    space: nas.SearchSpace, task: nas.Task, pairs: Pairs, batch: int, evaluations: int
) -> list[nas.Architecture]:
    """Search as users do, with timed evaluations; the front."""
    flops = nas.minimize(lambda a: nas.trace_cost(space.skeleton(a), task.example).flops)
    objectives = {"accuracy": nas.maximize(pairs, batched=True), "flops": flops}
    study = nas.search(space, objectives, algorithm=NSGA2(batch=batch), evaluations=evaluations)
    return [study.architecture(i) for i in study.front()["id"]]


def mutants(
    space: nas.SearchSpace, front: Sequence[nas.Architecture], n: int, rng: np.random.Generator
) -> list[nas.Architecture]:
    """Distinct children of the front's nets in turns."""
    found: dict[nas.Architecture, None] = {}
    while len(found) < n:
        parent = front[len(found) % len(front)]
        found[space.mutate(parent, rng, 0.3 / len(parent))] = None
    return list(found)


def bench(name: str, widths: dict[str, object], task: nas.Task, args: argparse.Namespace) -> None:
    first, second = supernets(widths, task, args.steps)
    rng = np.random.default_rng(0)

    def pairs() -> Pairs:
        return Pairs(
            lambda a: nas.evaluate_subnet(first, task, a), lambda nets: nas.evaluate_subnets(second, task, nets)
        )

    pairs()(mutants(first.space, [first.space.largest], 10, rng))  # warm up
    for batch in args.batches:
        searched = pairs()
        front = front_of(first.space, task, searched, batch, args.evaluations)
        print(searched.line(f"{name}, search in batches of {batch}"), flush=True)
        if len(searched.seconds) > 3:
            print(searched.line("  its second half", len(searched.seconds) // 2), flush=True)
    for n in args.sizes:
        bred, drawn = pairs(), pairs()
        for _ in range(args.rounds):
            bred(mutants(first.space, front, n, rng))
        print(bred.line(f"{name}, {n} mutants of a front of {len(front)}"), flush=True)
        for _ in range(args.rounds):
            drawn([first.space.sample(rng) for _ in range(n)])
        print(drawn.line(f"{name}, {n} random nets"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="of the validation split")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    parser.add_argument("--evaluations", type=int, default=150, help="of each search")
    parser.add_argument("--batches", type=int, nargs="+", default=[10, 40], help="of NSGA-II; its own is 10")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 40, 100], help="of the other populations")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    task = nas.load_task("fashion-mnist").subset(validation=args.samples)
    print(f"{'':42} {'one by one':>9} {'together':>8} {'ratio':>7}   quartiles (pairs); nets/s, {args.threads} threads")
    for name, widths in SPACES.items():
        bench(name, widths, task, args)


if __name__ == "__main__":
    main()
