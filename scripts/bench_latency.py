"""Latency models on published measurements: families left out, random splits, coverage of the intervals.

    python scripts/bench_latency.py --data FOLDER [--seeds 2] [--plain]

FOLDER holds `latency_points.csv` (device_key, runtime, precision, batch, resolution_or_seqlen, model, arch_class, kind,
latency_ms) and `timm_traces.jsonl` (operators of the same nets: class, MACs, elements in and out, weights, count).
Device sets are the transformers and hybrids that one device and runtime have, 40 at least. Nothing is known of a
device but its kind, its runtime and what its datasheet states. With --plain a roofline of three terms (FLOPs, bytes,
launches), by non-negative least squares of relative errors on the same folds, takes the place of the latency model.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.stats import kendalltau

import nas
from nas.hw_profiles.models.priors import Prior, prior_of

KIND = {"conv": "convolution", "conv1": "convolution", "gconv": "convolution", "dw": "depthwise", "gemm": "matmul"}
KIND |= {"bmm": "matmul", "sdpa": "attention", "softmax": "normalization", "norm": "normalization"}
KIND |= {"elt": "elementwise", "copy": "other", "pool": "other"}
SHEET = {"rtx-3090": (71.2e12, 936e9), "rtx-4090": (165.2e12, 1008e9)}  # fp16 FLOP/s and bytes/s
FOLDS = 5


class Plain:
    """Three rates that add up: what a latency model has to beat. It has no interval."""

    def __init__(self, costs: Sequence[nas.Cost], latencies_ms: Sequence[float]) -> None:
        self.weights = nnls(terms(costs) / np.array(latencies_ms)[:, None], np.ones(len(costs)))[0]

    def predict(self, costs: Sequence[nas.Cost]) -> pd.DataFrame:
        results = terms(costs) @ self.weights
        return pd.DataFrame({"mean_ms": results, "low_ms": results, "high_ms": results})


def terms(costs: Sequence[nas.Cost]) -> np.ndarray:
    """GFLOPs, GB and thousands of kernels of each net."""
    return np.array(
        [(c.flops / 1e9, sum(op.count * op.bytes for op in c.operators) / 1e9, c.kernels / 1e3) for c in costs]
    )


@dataclass(frozen=True)
class Target:
    """A device as far as the fit wants to know it."""

    device: str
    runtime: str
    precision: str

    def prior(self) -> Prior:
        kind = "cpu" if self.device.startswith("core") else "server-gpu"
        return prior_of(kind, *SHEET.get(self.device, (None, None)), "compile" in self.runtime)


def cost(trace: dict[str, Any], batch: int, precision: str) -> nas.Cost:
    """A net's kernels: those listed one by one, and what is left of each class."""
    width = {"fp32": 4}.get(precision, 2)
    left = {k: np.array(v, dtype=float) for k, v in trace["agg"].items()}
    rows = []
    for name, macs, read, written, weights, n in trace["heavy"]:
        rows.append((name, macs, read, written, weights, n))
        left[name] -= n * np.array([1, macs, read, written, weights])
    rows += [(k, *np.maximum(v[1:], 0) / v[0], int(v[0])) for k, v in left.items() if v[0] > 0]
    return nas.Cost.from_operators(
        [
            {"kind": KIND[k], "flops": 2 * m * batch, "bytes_read": (r * batch + p) * width}
            | {"bytes_written": w * batch * width, "count": n}
            for k, m, r, w, p, n in rows
        ],
        params=trace["params"],
        precision=precision,
    )


def device_sets(folder: Path) -> dict[str, tuple[Target, pd.DataFrame]]:
    """One table for each device and runtime: family, latency_ms, cost."""
    traces = {(t["model"], t["img"]): t for t in map(json.loads, (folder / "timm_traces.jsonl").open())}
    points = pd.read_csv(folder / "latency_points.csv", low_memory=False)
    points = points[
        points.arch_class.isin(["transformer", "hybrid"]) & points.kind.isin(["latency_bs1", "batch_step_time"])
    ]
    points = points[~points.note.fillna("").str.contains("IMPLAUSIBLE")]
    results = {}
    for (device, runtime, precision, batch, _), part in points.groupby(
        ["device_key", "runtime", "precision", "batch", "kind"]
    ):
        rows = []
        width = "fp32" if precision == "fp32" else "fp16"
        for model, size, ms in zip(
            part.model, part.resolution_or_seqlen.fillna("").astype(str), part.latency_ms, strict=True
        ):
            name, side = model.split(".")[0], size.split("x")[0]
            trace = traces.get((name, int(float(side)))) if side.replace(".", "").isdigit() else None
            if trace is not None:
                family = re.match(r"[a-z]+(v\d)?", name)
                rows.append((family[0] if family else name, ms, cost(trace, int(float(batch)), width)))
        if len(rows) >= 40:
            table = pd.DataFrame(rows, columns=["family", "latency_ms", "cost"])
            results[f"{device}, {runtime[:28]}"] = (Target(device, runtime, width), table)
    return results


def evaluate(
    target: Target, table: pd.DataFrame, k: int, *, by_family: bool, seed: int, like: Any = None, plain: bool = False
) -> tuple[float, ...]:
    """(MAPE %, its median %, Kendall tau, coverage %, interval as a factor) over five folds of families, or of nets."""
    rng = np.random.default_rng(seed)
    labels = table.family if by_family else pd.Series(range(len(table)))
    place = {x: i % FOLDS for i, x in enumerate(rng.permutation(labels.unique()))}
    fold, parts = labels.map(place).to_numpy(), []
    for i in range(FOLDS):
        known = table.iloc[rng.permutation(np.flatnonzero(fold != i))[:k]]
        costs, times, groups = list(known.cost), list(known.latency_ms), list(known.family) if by_family else None
        model = Plain(costs, times) if plain else nas.LatencyModel.fit(costs, times, target, groups, like=like)
        held = table[fold == i]
        parts.append(model.predict(list(held.cost)).assign(truth=held.latency_ms.to_numpy()))
    return scores(pd.concat(parts))


def within_families(target: Target, table: pd.DataFrame, k: int, *, seed: int) -> tuple[float, ...]:
    """As `evaluate`, for each family of k + 5 nets or more: k of them are known, the others held out."""
    rng, parts = np.random.default_rng(seed), []
    for _, family in table.groupby("family"):
        if len(family) < k + 5:
            continue
        order = rng.permutation(len(family))
        known, held = family.iloc[order[:k]], family.iloc[order[k:]]
        model = nas.LatencyModel.fit(list(known.cost), list(known.latency_ms), target)
        parts.append(model.predict(list(held.cost)).assign(truth=held.latency_ms.to_numpy()))
    return scores(pd.concat(parts))


def scores(results: pd.DataFrame) -> tuple[float, ...]:
    off = (results.mean_ms / results.truth - 1).abs()
    inside = (results.low_ms <= results.truth) & (results.truth <= results.high_ms)
    tau = kendalltau(results.mean_ms, results.truth)[0]
    return 100 * off.mean(), 100 * off.median(), tau, 100 * inside.mean(), (results.high_ms / results.mean_ms).median()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plain", action="store_true")
    args = parser.parse_args()
    sets = device_sets(args.data)
    print(f"{sum(len(table) for _, table in sets.values())} points of {len(sets)} devices and runtimes")
    splits: dict[str, Callable[..., tuple[float, ...]]] = {
        "nets of the same family": within_families,
        "families": partial(evaluate, by_family=True, plain=args.plain),
        "random nets": partial(evaluate, by_family=False, plain=args.plain),
    }
    for held, k in product(splits, (5, 20, 1000)):
        if held == "nets of the same family" and (k > 5 or args.plain):
            continue
        print(f"\n{k} points at most, held out: {held}")
        print(
            f"{'device and runtime':46} {'nets':>5} {'MAPE %':>7} {'median':>7} {'tau':>6} {'cover %':>8} {'factor':>7}"
        )
        results = []
        for name, (target, table) in sets.items():
            runs = [splits[held](target, table, k, seed=s) for s in range(args.seeds)]
            results.append(np.mean(runs, axis=0))
            print(f"{name:46} {len(table):5} {line(results[-1])}")
        middle = np.median(results, axis=0)
        middle[3] = np.mean(results, axis=0)[3]
        print(f"{'median (coverage: mean)':46} {'':5} {line(middle)}", flush=True)


def line(row: Sequence[float]) -> str:
    error, median, tau, cover, factor = row
    return f"{error:7.1f} {median:7.1f} {tau:6.3f} {cover:8.1f} {factor:7.2f}"


if __name__ == "__main__":
    main()
