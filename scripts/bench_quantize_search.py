"""Policy and architecture searched together, against architecture first and a uniform policy afterwards.

    python scripts/bench_quantize_search.py --run runs/quantize [--evaluations 200] [--seeds 5] [--samples 1000]

A Fashion-MNIST supernet (trained first, kept in the run folder); error on part of the validation split, milliseconds of
one input in ONNX Runtime on one thread, bytes of the stored tensors. Each net is measured once, beside a reference net,
and kept in the run folder, so that all methods and seeds see one number. Printed: hypervolumes (each objective as a
share of 1.5 times the largest net of floats, error of 0.5), what nets as good as the largest in 8 bits take, and how
the one that gains most by speed and size together does on the test split, which no search has seen.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import nas
from nas.hw_profiles import Protocol, measure_all
from nas.search_space.quantization import GENE, Scheme
from nas.supernet.export import stored
from nas.supernet.quantize.quantized import Quantized
from nas.supernet.shipped import quantized_for

SCHEMES = ("w16a16", "w8a8", "w4a16", "w4a8")
WORST_ERROR = 0.5
Facts = Callable[[nas.Architecture], list[float]]
"""A net's error, milliseconds and bytes."""


class Bench:
    """What is known of nets, and where it is kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.task, self.file = nas.load_task("fashion-mnist"), args.run / f"facts-{args.steps}-{args.samples}.json"
        self.part = self.task.subset(validation=args.samples)
        bound = nas.load_preset("vit-fashion").bind(input_shape=self.task.input_shape, classes=self.task.classes)
        self.floats = nas.Supernet(nas.SearchSpace(bound))
        nas.train(self.floats, self.task, nas.Recipe(steps=args.steps), run=args.run / "supernet")
        self.joint = nas.Supernet(self.floats.space.quantized(schemes=SCHEMES))
        self.joint.load_state_dict(self.floats.state_dict())
        self.known: dict[str, list[float]] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.spent, largest = np.zeros(3), self.floats.extract(self.floats.space.largest).eval()
        self.reference = nas.export(largest, self.task.example, tempfile.mkdtemp(), ["onnx-fixed"])["onnx-fixed"]
        if "reference" not in self.known:
            timed = measure_all([(self.reference, self.task.example)], runtime="onnxruntime", threads=1)
            self.known["reference"] = [timed[0].median_ms]

    def facts(self, supernet: nas.Supernet, a: nas.Architecture) -> list[float]:
        if a.id not in self.known:
            start = [time.perf_counter()]
            module = supernet.extract(a).eval()
            net = quantized_for(module, self.task) if supernet is self.joint else Quantized(module)
            start.append(time.perf_counter())
            error = 1 - nas.evaluate(net.module, self.part)
            start.append(time.perf_counter())
            pairs: list[Any] = [(self.reference, self.task.example), (module, self.task.example)]
            how = Protocol(seconds=0.1, least_repeats=10, least_turns=4)
            reference, timed = measure_all(pairs, runtime="onnxruntime", threads=1, protocol=how)
            self.spent += np.diff([*start, time.perf_counter()])
            ms = self.known["reference"][0] * timed.median_ms / reference.median_ms
            self.known[a.id] = [error, ms, float(sum(t.numel() * t.element_size() for t in stored(net).values()))]
            self.file.write_text(json.dumps(self.known))
        return self.known[a.id]

    def search(self, supernet: nas.Supernet, evaluations: int, seed: int) -> list[nas.Architecture]:
        """The front."""
        objectives = {
            name: nas.minimize(lambda a, i=i: self.facts(supernet, a)[i])
            for i, name in enumerate(("error", "ms", "bytes"))
        }
        study = nas.search(supernet.space, objectives, evaluations=evaluations, seed=seed)
        return [study.architecture(name) for name in study.front()["id"]]

    def uniform(self, net: Mapping[str, Any], scheme: str) -> nas.Architecture:
        genes = [gene for gene in self.joint.space.genes if gene.startswith(GENE)]
        return self.joint.space.architecture({**dict.fromkeys(genes, Scheme.parse(scheme).text), **net})

    def points(self, nets: list[nas.Architecture]) -> np.ndarray:
        return np.array([self.facts(self.joint, net) for net in nets])

    def tested(self, net: nas.Architecture) -> float:
        return nas.evaluate(quantized_for(self.joint.extract(net).eval(), self.task).module, self.task, "test")

    def gains(self, nets: list[nas.Architecture], limit: np.ndarray) -> str:
        """What nets with no larger error than `limit` gain over it: in speed, in size, and one net in both."""
        points = self.points(nets)
        good = np.flatnonzero(points[:, 0] <= limit[0])
        if not len(good):
            return "none as good as the largest in w8a8"
        ratios = limit[1:] / points[good, 1:]
        fast, small = ratios.max(0)
        best = ratios.prod(1).argmax()
        return (
            f"as good as the largest in w8a8: {fast:.2f}x faster, another {small:.2f}x smaller; one net "
            f"{ratios[best][0]:.2f}x and {ratios[best][1]:.2f}x, test {self.tested(nets[good[best]]):.2%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    bench = Bench(args)
    whole = np.array(bench.facts(bench.floats, bench.floats.space.largest))
    alone = [bench.uniform(bench.floats.space.largest, "w8a8")]
    limit = bench.points(alone)[0]
    print(f"largest net: floats {whole.round(4)}, w8a8 {limit.round(4)} (error, ms, bytes)")
    print(f"  in w8a8 on the test split {bench.tested(alone[0]):.2%}", flush=True)
    for seed in range(args.seeds):
        joint = bench.search(bench.joint, args.evaluations, seed)
        floats = [bench.uniform(net, "w8a8") for net in bench.search(bench.floats, args.evaluations, seed)]
        for name, nets in {"joint": joint, "float, then w8a8": floats, "largest in w8a8": alone}.items():
            points = bench.points(nets)
            volume = nas.hypervolume(points / [WORST_ERROR, *1.5 * whole[1:]], [1, 1, 1])
            gains = bench.gains(nets, limit)
            print(f"seed {seed} {name:17} hypervolume {volume:.4f}, front {len(nets):3}; {gains}", flush=True)
        seconds = bench.spent / max(1, len(bench.known))
        print(
            f"  so far: quantizing, evaluating, timing {seconds.round(3)} s a net; {len(bench.known)} nets", flush=True
        )


if __name__ == "__main__":
    main()
