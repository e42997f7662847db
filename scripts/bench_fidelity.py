"""Nets that are given up after a part of the validation split, against all nets evaluated in full.

    python scripts/bench_fidelity.py [--samples 5000] [--steps 400] [--evaluations 200] [--algorithms guided nsga2]

A supernet on Fashion-MNIST, accuracy against the latency that is predicted for a device. Printed for each way: samples
computed of those of full evaluations, CPU seconds of evaluating accuracies, and the hypervolume, whose median over the
seeds is compared.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import nas
from nas.search.validation import Validation


@dataclass
class Timed:
    """Accuracies, and the CPU seconds that they take."""

    validation: Validation
    seconds: float = 0.0

    def __call__(self, architectures: Sequence[nas.Architecture], fidelity: float = 1.0) -> Iterator[float]:
        values = self.validation(architectures, fidelity)
        for _ in architectures:
            start = time.process_time()
            value = next(values)
            self.seconds += time.process_time() - start
            yield value


def run(supernet: nas.Supernet, task: nas.Task, device: nas.Device, early: bool, **settings: object) -> list[float]:
    """(share of the samples computed, CPU seconds, hypervolume)."""
    timed = Timed(Validation(supernet, task))
    fidelities = timed.validation.fidelities if early else (1.0,)
    costs: dict[nas.Architecture, float] = {}

    def latency_ms(a: nas.Architecture) -> float:
        if a not in costs:
            costs[a] = device.latency(nas.trace_cost(supernet.space.skeleton(a), task.example)).value
        return costs[a]

    objectives = {
        "accuracy": nas.maximize(timed, batched=True, fidelities=fidelities),
        "latency_ms": nas.minimize(latency_ms),
    }
    study = nas.search(supernet.space, objectives, **settings)
    reference = {"accuracy": 0.0, "latency_ms": latency_ms(supernet.space.largest)}
    share = float(np.mean([e.fidelity for e in study.evaluations]))
    return [share, timed.seconds, study.hypervolume(reference) / reference["latency_ms"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000, help="of the validation split")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--algorithms", nargs="+", default=["guided", "nsga2", "random"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="jetson-orin")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = nas.load_task("fashion-mnist").subset(validation=args.samples)
    space = nas.SearchSpace(nas.load_preset(task.space).bind(task.input_shape, task.classes))
    supernet, device = nas.Supernet(space), nas.load_device(args.device)
    nas.train(supernet, task, nas.Recipe(steps=args.steps))
    print(f"{args.evaluations} evaluations; algorithm, way, samples, CPU s, hypervolume: medians; hypervolume by seed")
    for name in args.algorithms:
        for early in (False, True):
            settings = {"algorithm": name, "evaluations": args.evaluations}
            found = np.array([run(supernet, task, device, early, seed=s, **settings) for s in range(args.seeds)])
            share, seconds, volume = np.median(found, axis=0)
            way, volumes = "early stop" if early else "in full", " ".join(f"{v:.4f}" for v in found[:, 2])
            print(f"{name:10}  {way:10}  {share:5.0%}  {seconds:5.1f}  {volume:.4f}   {volumes}", flush=True)


if __name__ == "__main__":
    main()
