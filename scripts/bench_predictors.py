"""Learned latency predictors on HAT's measurements, beside counting parameters and FLOPs, and LINAS's choice.

    python scripts/bench_predictors.py --data FOLDER [--points 5 20 ...] [--seeds 3] [--only products ...] [--last N]

FOLDER holds the tables `wmt14ende_*_all.csv` of Hardware-Aware Transformers (Wang et al. 2020): 2,000 translation nets
on each of three devices. The points to fit are drawn at random, all others predicted; with --last, they are
drawn from all but the last N nets, which are predicted. Printed: mean absolute relative error in %, its median in
brackets; means over seeds. Some rows (the first 104 on the Pi, 222 between 1,200 and 1,600 on the Titan Xp) were timed
while the machine was slower: fitted to all 2,000 nets, sums of products still miss by 2.5, 4.7 and 4.7 % in the mean.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from nas.hw_profiles import Cost, LatencyModel
from nas.predictors import Features, Predictor, choose, cost_columns
from nas.predictors.methods.ridge import Ridge
from nas.search_space.architecture import Architecture
from nas.search_space.gene_space import GeneSpace

DEVICES = {"Raspberry Pi 4": "cpu_raspberrypi", "Xeon E5-2640": "cpu_xeon", "Titan Xp": "gpu_titanxp"}
QKV, TOKENS, BEAM, VOCABULARY = 512, 30, 5, 32_768


@cache
def cost(net: Architecture) -> Cost:
    """The encoder over 30 tokens, then 30 steps of a beam of 5 through decoder and vocabulary."""
    g = {name.removesuffix("_avg"): float(value) for name, value in net.items()}
    e, d, layers = g["encoder_embed_dim"], g["decoder_embed_dim"], g["decoder_layer_num"]
    keys, depth = TOKENS * g["decoder_arbitrary_ende_attn"], g["encoder_layer_num"]
    steps = TOKENS * layers

    def matmul(count: float, tokens: float, weights: float) -> tuple[str, float, float, float]:
        return "matmul", count, 2 * tokens * weights, weights

    rows = [  # kind, kernels, FLOPs and elements of each
        matmul(4 * depth, TOKENS, e * QKV),
        matmul(2 * depth, TOKENS, e * g["encoder_ffn_embed_dim"]),
        ("attention", depth, 4 * TOKENS**2 * QKV, 4 * TOKENS * QKV),
        ("normalization", 2 * depth, 5 * TOKENS * e, 2 * TOKENS * e),
        matmul(2 * layers, keys, e * QKV),
        matmul(6 * steps, BEAM, d * QKV),
        matmul(2 * steps, BEAM, d * g["decoder_ffn_embed_dim"]),
        *(("attention", steps, 4 * BEAM * n * QKV, 2 * BEAM * n * QKV) for n in (TOKENS / 2, keys)),
        ("normalization", 3 * steps, 5 * BEAM * d, 2 * BEAM * d),
        ("elementwise", 4 * steps, BEAM * d, 3 * BEAM * d),
        matmul(TOKENS, BEAM, d * VOCABULARY),
    ]
    table = pd.DataFrame(rows, columns=["kind", "count", "flops", "bytes_read"])
    return Cost.from_operators(table.assign(bytes_read=4 * table["bytes_read"], bytes_written=0.0))


class Points:
    """The nets of one device: architectures, latencies, their tables with and without cost columns."""

    def __init__(self, path: Path) -> None:
        data = pd.read_csv(path)
        genes = data.drop(columns=[c for c in data if c.startswith("latency")])
        self.y = (data["latency_mean_encoder"] + data["latency_mean_decoder"]).to_numpy()
        space = GeneSpace({name: sorted(set(genes[name])) for name in genes})
        self.nets = [Architecture(row) for row in genes.to_dict("records")]
        self.costs = [cost(net) for net in self.nets]
        self.features = {"genes": Features(space), "cost": Features(space, lambda net: cost_columns(cost(net)))}
        self.tables = {name: features.table(self.nets) for name, features in self.features.items()}


Result = Callable[[Points, np.ndarray, np.ndarray], np.ndarray]


def learnt(method: str, columns: str = "genes") -> Result:
    def predict(points: Points, fitted: np.ndarray, out: np.ndarray) -> np.ndarray:
        table = points.tables[columns]
        model = Predictor(points.features[columns], method, "log").fit(table.rows(fitted), points.y[fitted])
        return model.predict(table.rows(out))[0]

    return predict


def line(number: Callable[[Cost], float]) -> Result:
    def predict(points: Points, fitted: np.ndarray, out: np.ndarray) -> np.ndarray:
        x, y = np.log([number(c) for c in points.costs]), np.log(points.y)
        return np.exp(np.polyval(np.polyfit(x[fitted], y[fitted], 1), x[out]))

    return predict


def linas(points: Points, fitted: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The better of ridge (alpha 0.1 to 10) and SVR in cross-validated MAPE, on milliseconds."""
    table, methods = points.tables["genes"], (Ridge(degrees=(1,), alphas=(0.1, 1.0, 10.0)), "svr")
    choice = choose(points.features["genes"], table.rows(fitted), points.y[fitted], methods=methods, metric="mape")
    return choice.fitted.predict(table.rows(out))[0]


def roofline(points: Points, fitted: np.ndarray, out: np.ndarray) -> np.ndarray:
    model = LatencyModel.fit([points.costs[i] for i in fitted], points.y[fitted].tolist())
    return model.predict([points.costs[i] for i in out])["mean_ms"].to_numpy()


def weights(c: Cost) -> float:
    """Bytes of all matrices, those of the decoder once and not at each step: a count of parameters."""
    return sum(op.bytes * op.count / (TOKENS if op.count >= TOKENS else 1) for op in c.operators if op.kind == "matmul")


RESULTS: dict[str, Result] = {
    "parameters": line(weights),
    "FLOPs": line(lambda c: c.flops),
    "LINAS ridge/SVR": linas,
    "latency model on the cost": roofline,
    **{m: learnt(m) for m in ("ridge", "svr", "pairs", "products")},
    "products + cost": learnt("products", "cost"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--points", type=int, nargs="+", default=[5, 20, 100, 400, 1600])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=RESULTS, default=list(RESULTS))
    parser.add_argument("--last", type=int, default=0)
    args = parser.parse_args()
    for device, name in DEVICES.items():
        path = args.data / f"wmt14ende_{name}_all.csv"
        if not path.is_file():
            sys.exit(f"{path} does not exist; --data must be a folder with HAT's three tables (wmt14ende_*_all.csv)")
        points = Points(path)
        print(f"\n{device:26}" + "".join(f"{n:>16}" for n in args.points) + "      s at the last", flush=True)
        for label in args.only:
            cells = [cell(points, RESULTS[label], n, args.seeds, args.last) for n in args.points]
            found = "".join(f"{mean:8.2f} ({median:5.2f})" for mean, median, _ in cells)
            print(f"{label:26}{found}{cells[-1][2]:10.2f}", flush=True)


def cell(points: Points, predict: Result, n: int, seeds: int, last: int) -> tuple[float, float, float]:
    errors, start = [], time.perf_counter()
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(points.y) - last)
        held = np.arange(len(order), len(points.y)) if last else order[n:]
        errors.append(np.abs(predict(points, order[:n], held) / points.y[held] - 1))
    seconds = (time.perf_counter() - start) / seeds
    return 100 * float(np.mean(errors)), 100 * float(np.mean(np.median(errors, axis=1))), seconds


if __name__ == "__main__":
    main()
