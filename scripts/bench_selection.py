"""The latency of the net that a search chooses, against the upper end that was stated of it: simulated searches.

    OMP_NUM_THREADS=1 python scripts/bench_selection.py --hat FOLDER --timm FOLDER [--points 5 20 100] [--draws 2]

The folders are those of `bench_predictors.py` and `bench_latency.py`; either may be left out. Of each table some nets
are drawn and fitted to; the others are held out. A search draws candidates from these (500 at most) and a budget
between the 15th and the 85th percentile of their latencies, and takes, of all whose upper end keeps the budget, the one
of the highest quality. Qualities grow with the size, for chance is least kind then: parameters, FLOPs, or a random sum
of both and of the genes, each with a random share of noise. Printed for each table and predictor: of nets held out, how
many lie in the interval (in) and below its upper end (below); of nets chosen, how many lie below their upper end and in
the budget; the median share of the budget that these use; and searches that found no net.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_latency import device_sets
from bench_predictors import DEVICES, Points, weights

import nas
from nas.predictors import choose

MOST = 500
"""Candidates of a search."""
COLUMNS = ["low", "mean", "high"]
Fit = Callable[[np.ndarray, np.ndarray], pd.DataFrame]
"""Indices of nets to fit to, and of nets to predict: their intervals."""


@dataclass(frozen=True)
class Measured:
    """One predictor on one table of measured nets. sizes: (nets, columns) that qualities grow with, standardized."""

    name: str
    latency_ms: np.ndarray
    sizes: np.ndarray
    fit: Fit


def standardized(columns: np.ndarray) -> np.ndarray:
    return (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)


def hat_tables(folder: Path) -> Iterator[Measured]:
    for device, name in DEVICES.items():
        points = Points(folder / f"wmt14ende_{name}_all.csv")
        logs = np.log([[weights(c), c.flops] for c in points.costs])
        sizes = standardized(np.column_stack([logs, points.tables["genes"].genes]))
        yield Measured(f"{device}, latency model", points.y, sizes, model_fit(points.costs, points.y))
        yield Measured(f"{device}, products", points.y, sizes, choice_fit(points))


def timm_tables(folder: Path) -> Iterator[Measured]:
    for name, (target, table) in device_sets(folder).items():
        costs, y = list(table.cost), table.latency_ms.to_numpy()
        sizes = standardized(np.log([[c.params, c.flops] for c in costs]))
        yield Measured(name, y, sizes, model_fit(costs, y, target))


def model_fit(costs: list[nas.Cost], y: np.ndarray, target: object = None) -> Fit:
    def fit(fitted: np.ndarray, held: np.ndarray) -> pd.DataFrame:
        model = nas.LatencyModel.fit([costs[i] for i in fitted], y[fitted].tolist(), target)
        return model.predict([costs[i] for i in held]).rename(columns=lambda name: name.removesuffix("_ms"))

    return fit


def choice_fit(points: Points) -> Fit:
    features, table = points.features["cost"], points.tables["cost"]

    def fit(fitted: np.ndarray, held: np.ndarray) -> pd.DataFrame:
        choice = choose(features, table.rows(fitted), points.y[fitted], scale="log", methods=["products"])
        return choice.predict(table.rows(held))

    return fit


def quality(sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kind, columns = rng.integers(3), sizes.shape[1]
    weight = np.eye(columns)[kind] if kind < 2 else rng.exponential(size=columns)
    return standardized(sizes @ weight) + rng.uniform(0, 0.5) * rng.normal(size=len(sizes))


def searches(measured: Measured, n: int, seed: int, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(nets held out: low, mean, high, truth; one row for each search: kept, in_budget, use; NaN: no net)."""
    rng = np.random.default_rng((seed, n))
    order, y = rng.permutation(len(measured.latency_ms)), measured.latency_ms
    n = min(n, int(0.75 * len(y)))
    held, rows = order[n:], []
    bounds = measured.fit(order[:n], held)[COLUMNS].assign(truth=y[held]).reset_index(drop=True)
    for _ in range(count):
        some = rng.permutation(len(held))[:MOST]
        nets, value = bounds.iloc[some], quality(measured.sizes[held[some]], rng)
        budget = np.quantile(nets.truth, rng.uniform(0.15, 0.85))
        value = np.where(nets.high <= budget, value, -np.inf)
        net = nets.iloc[int(np.argmax(value))]
        some_net = np.isfinite(value).any()
        found = (net.truth <= net.high, net.truth <= budget, net.truth / budget) if some_net else (np.nan,) * 3
        rows.append(found)
    return bounds, pd.DataFrame(rows, columns=["kept", "in_budget", "use"], dtype=float)


def line(name: str, nets: pd.DataFrame, chosen: pd.DataFrame) -> str:
    inside = 100 * ((nets.low <= nets.truth) & (nets.truth <= nets.high)).mean()
    below, factor = 100 * (nets.truth <= nets.high).mean(), (nets.high / nets["mean"]).median()
    kept, held, use, none = (
        *(100 * chosen[["kept", "in_budget"]].mean()),
        chosen.use.median(),
        chosen.use.isna().sum(),
    )
    return f"{name:44}{inside:7.1f}{below:7.1f}{factor:7.2f}{kept:8.1f}{held:8.1f}{use:7.3f}{none:4}/{len(chosen)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hat", type=Path)
    parser.add_argument("--timm", type=Path)
    parser.add_argument("--points", type=int, nargs="+", default=[5, 20, 100])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--searches", type=int, default=18, help="for each table, predictor, number of points and draw")
    args = parser.parse_args()
    tables = [*(hat_tables(args.hat) if args.hat else ()), *(timm_tables(args.timm) if args.timm else ())]
    for n in args.points:
        print(
            f"\n{f'{n} points':44}{'in %':>7}{'below':>7}{'factor':>7}{'kept %':>8}{'budget':>8}{'use':>7} none",
            flush=True,
        )
        parts = []
        for table in tables:
            runs = [searches(table, n, seed, args.searches) for seed in range(args.draws)]
            parts.append([pd.concat(found) for found in zip(*runs, strict=True)])
            print(line(table.name, *parts[-1]), flush=True)
        print(line("all", *(pd.concat(found) for found in zip(*parts, strict=True))), flush=True)


if __name__ == "__main__":
    main()
