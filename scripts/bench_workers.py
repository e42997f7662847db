"""Evaluations per second of a search in one process and by workers, and the memory that workers take.

    python scripts/bench_workers.py [--workers 2] [--evaluations 80] [--samples 2000] [--one-by-one] [--rounds 3]

A 12-layer space on Fashion-MNIST; weights as initialised, since only time counts. Random search in batches of 20. The
clock starts with the second batch: Ray has started then, and every worker has loaded its libraries and the problem.
Ways are run in turns, `rounds` times; printed are the medians, whether all gave the same numbers, and the private and
shared memory of each worker at the end. Run it on a quiet machine: the load is printed too.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import nas
from nas.search.algorithms.random import RandomSearch

GENES = {"mixer": ["softmax", "linear", "pool"], "kv_heads": [1, 2], "group": [1, 2], "ffn_ratio": [0.125, 0.5, 1]}
BATCH = 20


def memory_mib(_: nas.Architecture) -> float:
    """Private memory of the process that evaluates, in MiB."""
    return _field("Private_Dirty")


def shared_mib(_: nas.Architecture) -> float:
    return _field("Shared_Dirty") + _field("Shared_Clean")


def _field(name: str) -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def timed(run: Callable[..., nas.Study]) -> tuple[float, float, nas.Study]:
    """(evaluations per second after the first batch, seconds until then, study)."""
    times: list[float] = [time.perf_counter()]
    study = run(progress=lambda *_: times.append(time.perf_counter()))
    return (len(times) - 1 - BATCH) / (times[-1] - times[BATCH]), times[BATCH] - times[0], study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"workers": 2, "evaluations": 80, "samples": 2000, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    task = nas.load_task("fashion-mnist")
    task = replace(task, validation=task.validation.take(torch.arange(options.samples)))
    function = nas.TransformerSpace(patch=7, width=64, layers=12, least_layers=6, head_dim=16, **GENES)
    space = nas.SearchSpace(function.bind(input_shape=task.input_shape, classes=task.classes))
    supernet = nas.Supernet(space).eval()
    objectives = {"accuracy": nas.maximize(lambda a: nas.evaluate_subnet(supernet, task, a))}
    measured = [
        nas.Constraint("private", upper=1e9, function=memory_mib),
        nas.Constraint("shared", upper=1e9, function=shared_mib),
    ]

    def search(workers: int, threads: int, **changes) -> nas.Study:
        torch.set_num_threads(threads)
        arguments = {"algorithm": RandomSearch(BATCH), "evaluations": options.evaluations, "workers": workers}
        return nas.search(space, objectives, constraints=measured, **arguments, **changes)

    cores = os.cpu_count() or 1
    ways = {"1 process, 1 thread": (1, 1), f"1 process, {cores} threads": (1, cores)}
    ways[f"{options.workers} workers, 1 thread each"] = (options.workers, 1)
    weights = sum(p.nbytes for p in supernet.parameters()) / 2**20
    data = sum(s.raw.nbytes for s in (task.train, task.validation, task.test)) / 2**20
    print(f"weights {weights:.1f} MiB, data {data:.1f} MiB; load {os.getloadavg()[0]:.1f} on {cores} cores")
    results: dict[str, list[tuple[float, float, nas.Study]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, (workers, threads) in ways.items():
            results[name].append(timed(lambda w=workers, t=threads, **k: search(w, t, **k)))
    base = statistics.median(rate for rate, _, _ in results["1 process, 1 thread"])
    first = results["1 process, 1 thread"][0][2].trials()["accuracy"]
    for name, runs in results.items():
        rate, start = (statistics.median(run[i] for run in runs) for i in (0, 1))
        last = runs[-1][2].trials()
        same = sum((run[2].trials()["accuracy"] != first).sum() for run in runs)
        print(
            f"{name:28} {rate:6.2f} evaluations/s (x{rate / base:.2f}), first batch {start:.1f} s, "
            f"{same} numbers differ, private {last['private'].max():.0f} MiB, shared {last['shared'].max():.0f} MiB"
        )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
