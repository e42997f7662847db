"""Does quantization-aware training pay? From one trained supernet of floats: more float steps, or as many with it.

    python scripts/bench_quantize_aware.py [--floats 1800] [--steps 400] [--seeds 0 1 2] [--schemes w8a8 ...]

Metric in percent on the validation and the test split of the largest net, the smallest and five random ones, with one
scheme everywhere and with a random policy. The first is quantized after training (GPTQ, RepQ-ViT), the other with the
steps that it learned. About 5 minutes a seed on one core.
"""

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nas
from nas.search_space.quantization import GENE, Scheme
from nas.supernet.shipped import as_shipped

RANDOM_NETS = 5
GROUPS = {"largest": slice(0, 1), "smallest": slice(1, 2), "random": slice(2, None), "all": slice(None)}
SCHEMES = ["w8a8", "w4a8", "w4a4", "w3a3", "w2a8", "w2a4"]
WAYS = {"floats": False, "qat": True}
Found = dict[str, NDArray[np.float64]]
"""By what nets are evaluated with: (nets, splits)."""


def trained(supernet: nas.Supernet, task: nas.Task, **knobs: Any) -> nas.Supernet:
    start = time.time()
    nas.train(supernet, task, **knobs)
    print(f"{knobs}: {time.time() - start:.0f} s", flush=True)
    return supernet


def policies(space: nas.SearchSpace, net: Mapping[str, Any], schemes: Sequence[str], seed: int) -> nas.Architecture:
    """The net with one of `schemes`, drawn, for each of its parts."""
    rng = np.random.default_rng(seed)
    return space.architecture({**net, **{g: str(rng.choice(list(schemes))) for g in space.genes if g.startswith(GENE)}})


def both(module: Any, task: nas.Task) -> list[float]:
    return [100 * nas.evaluate(module, task, split) for split in ("validation", "test")]


def evaluated(task: nas.Task, supernet: nas.Supernet, floats: nas.SearchSpace, schemes: Sequence[str]) -> Found:
    rng, served = np.random.default_rng(5), supernet.serving(floats)
    nets = [floats.largest, floats.smallest, *(floats.sample(rng) for _ in range(RANDOM_NETS))]
    results = {"float": np.array([both(served.extract(net, task), task) for net in nets])}
    for name, chosen in {**{s: [s] for s in schemes}, "mixed": schemes}.items():
        drawn = [policies(supernet.space, net, chosen, i) for i, net in enumerate(nets)]
        results[name] = np.array([both(as_shipped(supernet, task, net), task) for net in drawn])
    return results


def print_table(results: Mapping[str, Sequence[Found]]) -> None:
    print(f"{'':18}{'validation: floats, qat':>38}{'test: floats, qat':>30}")
    for name in results["floats"][0]:
        before, after = (np.array([one[name] for one in results[way]]) for way in WAYS)
        for group, part in GROUPS.items():
            old, new = (of[:, part].mean((0, 1)) for of in (before, after))
            cells = (f"{old[i]:13.1f} {new[i]:7.1f} {new[i] - old[i]:+7.1f}" for i in range(2))
            print(f"{name:9}{group:9}", *cells, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits")
    parser.add_argument("--floats", type=int, default=1800)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    args = parser.parse_args()
    task = nas.load_task(args.task)
    preset = nas.load_preset(task.space)
    floats = nas.SearchSpace(preset.bind(input_shape=task.input_shape, classes=task.classes))
    schemes = [Scheme.parse(text).text for text in args.schemes]
    space = floats.quantized(schemes=schemes)
    results: dict[str, list[Found]] = {way: [] for way in WAYS}
    for seed in args.seeds:
        first = trained(nas.Supernet(floats, seed=seed), task, steps=args.floats, seed=seed)
        for way, rounds in WAYS.items():
            supernet = copy.deepcopy(first).serving(space if rounds else floats)
            trained(supernet, task, steps=args.steps, seed=seed + 10, qat=rounds)
            results[way].append(evaluated(task, supernet.serving(space).eval(), floats, schemes))
    print_table(results)


if __name__ == "__main__":
    main()
