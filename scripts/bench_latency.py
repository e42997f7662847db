"""Latency models on published measurements: families left out, random splits, coverage of the intervals.

    python scripts/bench_latency.py --data FOLDER [--seeds 2]

FOLDER holds `latency_points.csv` (device_key, runtime, precision, batch, resolution_or_seqlen, model, arch_class, kind,
latency_ms) and `timm_traces.jsonl` (operators of the same nets: class, MACs, elements in and out, weights, count).
Device sets are the transformers and hybrids that one device and runtime have, 40 at least. Nothing is known of a
device but its kind, its runtime and what its datasheet states.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

import nas
from nas.hw_profiles.priors import Prior, prior_of

KIND = {"conv": "convolution", "conv1": "convolution", "gconv": "convolution", "dw": "depthwise", "gemm": "matmul"}
KIND |= {"bmm": "matmul", "sdpa": "attention", "softmax": "normalization", "norm": "normalization"}
KIND |= {"elt": "elementwise", "copy": "other", "pool": "other"}
SHEET = {"rtx-3090": (71.2e12, 936e9), "rtx-4090": (165.2e12, 1008e9)}  # fp16 FLOP/s and bytes/s
FOLDS = 5


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
    found = {}
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
            found[f"{device}, {runtime[:28]}"] = (Target(device, runtime, width), table)
    return found


def evaluate(
    target: Target, table: pd.DataFrame, k: int, *, by_family: bool, seed: int
) -> tuple[float, float, float, float]:
    """(MAPE %, Kendall tau, coverage %, interval as a factor) over five folds of families, or of nets."""
    rng = np.random.default_rng(seed)
    labels = table.family if by_family else pd.Series(range(len(table)))
    place = {x: i % FOLDS for i, x in enumerate(rng.permutation(labels.unique()))}
    fold, parts = labels.map(place).to_numpy(), []
    for i in range(FOLDS):
        known = table.iloc[rng.permutation(np.flatnonzero(fold != i))[:k]]
        model = nas.LatencyModel.fit(
            list(known.cost), list(known.latency_ms), target, groups=list(known.family) if by_family else None
        )
        held = table[fold == i]
        parts.append(model.predict(list(held.cost)).assign(truth=held.latency_ms.to_numpy()))
    all_ = pd.concat(parts)
    inside = (all_.low_ms <= all_.truth) & (all_.truth <= all_.high_ms)
    error = (all_.mean_ms / all_.truth - 1).abs().mean()
    return (
        100 * error,
        kendalltau(all_.mean_ms, all_.truth)[0],
        100 * inside.mean(),
        (all_.high_ms / all_.mean_ms).median(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    sets = device_sets(args.data)
    for by_family, k in ((True, 5), (True, 20), (True, 1000), (False, 20), (False, 1000)):
        print(f"\n{k} points at most, held out: {'families' if by_family else 'random nets'}")
        print(f"{'device and runtime':46} {'nets':>5} {'MAPE %':>7} {'tau':>6} {'cover %':>8} {'factor':>7}")
        found = []
        for name, (target, table) in sets.items():
            runs = [evaluate(target, table, k, by_family=by_family, seed=s) for s in range(args.seeds)]
            found.append(np.mean(runs, axis=0))
            error, tau, cover, factor = found[-1]
            print(f"{name:46} {len(table):5} {error:7.1f} {tau:6.3f} {cover:8.1f} {factor:7.2f}")
        middle, mean = np.median(found, axis=0), np.mean(found, axis=0)
        print(
            f"{'median (coverage: mean)':46} {'':5} {middle[0]:7.1f} {middle[1]:6.3f} {mean[2]:8.1f} {middle[3]:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
