"""Quality of shared weights: subnets of one supernet against the same nets trained alone for as many steps.

    python scripts/bench_quality.py --run runs/quality [--steps 5000] [--task fashion-mnist] [--space vit-fashion]

Part 1: a sandwich supernet; five nets spread over its front of accuracy and FLOPs (found on validation images),
inherited against alone (the better of two learning rates), on the test split. Part 2: a MatFormer supernet; mixes of
FFN sizes that were never trained, against the line between the trained granularities.
Interrupted, the same command goes on. About 40 minutes on 2 cores.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import nas
from nas.supernet.sampling import granularities

SEARCH_IMAGES, RANDOM_MIXES = 2000, 24


def say(done: int, steps: int, row: Any) -> None:
    if done % 500 == 0:
        print(f"  step {done}/{steps} loss {row['loss']:.3f}", flush=True)


def supernet_of(preset: str, task: nas.Task, recipe: nas.Recipe, run: Path, **changes: Any) -> nas.Supernet:
    options = nas.load_preset(preset).model_copy(update=changes)
    space = nas.SearchSpace(options.bind(input_shape=task.input_shape, classes=task.classes))
    supernet = nas.Supernet(space)
    start = time.time()
    nas.train(supernet, task, recipe, run=run, progress=say)
    print(f"{preset}: {recipe.steps} steps of {recipe.sampling} in {time.time() - start:.0f} s", flush=True)
    return supernet


def flops(supernet: nas.Supernet, task: nas.Task, architecture: nas.Architecture) -> float:
    return nas.trace_cost(supernet.space.skeleton(architecture), task.example).flops


def front_nets(supernet: nas.Supernet, task: nas.Task, n: int) -> list[nas.Architecture]:
    """`n` nets at even steps of log FLOPs along the front that a search on part of the validation split finds."""
    part = task.subset(validation=SEARCH_IMAGES)
    study = nas.search(
        supernet.space,
        {
            "accuracy": nas.maximize(lambda a: nas.evaluate_subnet(supernet, part, a)),
            "flops": nas.minimize(lambda a: flops(supernet, task, a)),
        },
        evaluations=120,
    )
    front = study.front().sort_values("flops")
    wanted = np.linspace(*np.log(front["flops"].iloc[[0, -1]]), n)
    picked = [int(np.abs(np.log(front["flops"]) - w).argmin()) for w in wanted]
    return [study.architecture(front["id"].iloc[i]) for i in dict.fromkeys(picked)]


def alone(supernet: nas.Supernet, task: nas.Task, a: nas.Architecture, recipe: nas.Recipe, run: Path) -> float:
    """Test accuracy of the net trained by itself, kept in a file: the better on validation of two learning rates."""
    found = []
    for lr in (recipe.lr, recipe.lr / 2):
        path = run / f"alone-{a.id}-{lr:g}.json"
        if not path.exists():
            net = nas.train_alone(supernet.space, a, task, recipe.model_copy(update={"lr": lr}))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([nas.evaluate(net, task, "validation"), nas.evaluate(net, task, "test")]))
        found.append(json.loads(path.read_text()))
    return float(max(found)[1])


def sharing(task: nas.Task, recipe: nas.Recipe, args: argparse.Namespace) -> None:
    supernet = supernet_of(args.space, task, recipe, args.run / "sandwich")
    by_itself = nas.Recipe(**{**recipe.model_dump(), "sampling": "uniform", "distill": "none"})
    gaps = []
    print("net         params    MFLOPs  inherited  alone   gap (points)")
    for a in front_nets(supernet, task, args.nets):
        inherited = nas.evaluate_subnet(supernet, task, a, "test")
        single = alone(supernet, task, a, by_itself, args.run / "alone")
        gaps.append(100 * (single - inherited))
        params = sum(p.numel() for p in supernet.extract(a).parameters())
        mflops = flops(supernet, task, a) / 1e6
        print(f"{a.id}  {params:8,} {mflops:8.2f}   {inherited:.4f}   {single:.4f}  {gaps[-1]:+.2f}", flush=True)
    print(f"mean gap {np.mean(gaps):.2f} points, largest {max(gaps):.2f} (goal: at most 1.0 and 2.0)", flush=True)


def mixes(space: nas.SearchSpace) -> dict[str, list[nas.Architecture]]:
    """FFN sizes per layer that are never trained together: neighbouring sizes along the depth, or any."""
    trained = granularities(space)
    genes = [n for n in trained[0] if trained[0][n] != trained[-1][n]]
    steps = list(product(range(len(trained)), repeat=len(genes)))
    near = [s for s in steps if max(s) - min(s) == 1]
    picked = np.random.default_rng(0).choice(len(steps), RANDOM_MIXES, replace=False)
    groups = {
        "neighbouring sizes, growing with depth": [s for s in near if list(s) == sorted(s)],
        "neighbouring sizes, shrinking with depth": [s for s in near if list(s) == sorted(s, reverse=True)],
        "random sizes": [steps[i] for i in picked if len(set(steps[i])) > 1],
    }

    def mix(levels: tuple[int, ...]) -> nas.Architecture:
        sizes = {n: trained[len(trained) - 1 - level][n] for n, level in zip(genes, levels, strict=True)}
        return space.architecture({**trained[0], **sizes})

    return {name: [mix(levels) for levels in group] for name, group in groups.items()}


def mix_and_match(task: nas.Task, recipe: nas.Recipe, args: argparse.Namespace) -> None:
    nested = nas.Recipe(**{**recipe.model_dump(), "sampling": "matformer", "distill": "none"})
    supernet = supernet_of("matformer", task, nested, args.run / "matformer", patch=7, layers=5)

    def point(a: nas.Architecture) -> tuple[float, float]:
        params = sum(p.numel() for p in supernet.space.skeleton(a).parameters())
        return params, nas.evaluate_subnet(supernet, task, a, "test")

    line = sorted(point(a) for a in granularities(supernet.space))
    for params, accuracy in line:
        print(f"granularity {params:8,.0f} params {accuracy:.4f}")
    for name, group in mixes(supernet.space).items():
        found = [point(a) for a in group]
        above = [100 * (accuracy - np.interp(params, *zip(*line, strict=True))) for params, accuracy in found]
        print(
            f"{len(found)} mixes, {name}: {np.mean(above):+.2f} points above the line, lowest {min(above):+.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--task", default="fashion-mnist")
    parser.add_argument("--space", default="vit-fashion")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--nets", type=int, default=5)
    parser.add_argument("--part", choices=["all", "sharing", "mix"], default="all")
    args = parser.parse_args()
    task, recipe = nas.load_task(args.task), nas.Recipe(steps=args.steps, random_nets=4)
    if args.part in ("all", "sharing"):
        sharing(task, recipe, args)
    if args.part in ("all", "mix"):
        mix_and_match(task, recipe, args)


if __name__ == "__main__":
    main()
