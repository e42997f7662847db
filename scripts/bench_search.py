"""Search on a space whose true front is known: every net of a small digits supernet is evaluated first.

    python scripts/bench_search.py [--evaluations 200] [--seeds 5] [--device jetson-orin]

5,292 nets (widths, subsets of layers, two mixers, three FFN sizes): inherited validation accuracy against predicted
latency. Printed: the hypervolume that each algorithm reaches, as a share of the true front's, for each seed.
"""

import argparse

import numpy as np

import nas
from nas.search.pareto import hypervolume

SPACE = {
    "patch": 2,
    "width": [32, 48, 64],
    "layers": 4,
    "least_layers": 2,
    "kv_heads": 2,
    "mixer": ["softmax", "conv"],
    "ffn_ratio": [0.125, 0.5, 1],
    "genes": {"kernel": 3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="jetson-orin")
    args = parser.parse_args()
    task, device = nas.load_task("digits"), nas.load_device(args.device)
    options = nas.TransformerSpace(**SPACE)
    space = nas.SearchSpace(options.bind(input_shape=task.input_shape, classes=task.classes))
    supernet = nas.Supernet(space)
    nas.train(supernet, task, steps=400)
    table: dict[nas.Architecture, tuple[float, float]] = {}
    for a in space.enumerate():
        cost = nas.trace_cost(space.skeleton(a), task.example, device.precision)
        table[a] = 1 - nas.evaluate_subnet(supernet, task, a), device.latency(cost).mean_ms
    points = np.array(list(table.values()))
    low, high = points.min(axis=0), points.max(axis=0)
    reference = [1.1, 1.1]
    true = hypervolume((points - low) / (high - low), reference)
    print(f"{len(table):,} nets, true hypervolume {true:.4f} (objectives scaled to [0, 1], reference 1.1)")
    objectives = {
        "error": nas.minimize(lambda a: (table[a][0] - low[0]) / (high[0] - low[0])),
        "latency": nas.minimize(lambda a: (table[a][1] - low[1]) / (high[1] - low[1])),
    }
    for algorithm in ("random", "nsga2"):
        shares = []
        for seed in range(args.seeds):
            study = nas.search(space, objectives, algorithm=algorithm, evaluations=args.evaluations, seed=seed)
            shares.append(study.hypervolume(reference) / true)
        print(f"{algorithm:8}", " ".join(f"{share:.4f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
