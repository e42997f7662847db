"""A latency model that starts from a device profiled before, beside one that starts from the datasheet.

    python scripts/bench_transfer.py --data FOLDER [--points 5 10 20] [--seeds 6] [--families]

FOLDER and device sets are those of `bench_latency.py`. The device to start from is, by rule, the one of the same kind
and of the same style of runtime (eager or compiled) whose datasheet is the nearest; its profile knows all of its nets.
Printed: mean absolute relative error in % of the nets that were not among the points; means over seeds. With --families
the points are of other families than the nets that are held out (the older device knows those, too).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_latency import Target, device_sets, evaluate

import nas
from nas.hw_profiles.models.priors import Prior


@dataclass(frozen=True)
class Known:
    """A device that was profiled."""

    name: str
    target: Target
    model: nas.LatencyModel

    def prior(self) -> Prior:
        return self.target.prior()


def nearest(own: Target, among: dict[str, Known]) -> Known:
    def distance(other: Known) -> tuple[bool, bool, float]:
        a, b = own.prior().rates, other.prior().rates
        ratios = np.log([a.flops_per_s / b.flops_per_s, a.bytes_per_s / b.bytes_per_s])
        kinds = own.device.startswith("core") != other.target.device.startswith("core")
        return kinds, ("compile" in own.runtime) != ("compile" in other.target.runtime), float(np.abs(ratios).sum())

    return min((known for known in among.values() if known.target.device != own.device), key=distance)


def error(target: Target, table: pd.DataFrame, seed: int, k: int, like: Known | None) -> float:
    order = np.random.default_rng(seed).permutation(len(table))
    known, held = table.iloc[order[:k]], table.iloc[order[k:]]
    model = nas.LatencyModel.fit(list(known.cost), list(known.latency_ms), target, like=like)
    predicted = model.predict(list(held.cost)).mean_ms.to_numpy()
    return 100 * float(np.abs(predicted / held.latency_ms.to_numpy() - 1).mean())


def family_error(target: Target, table: pd.DataFrame, seed: int, k: int, like: Known | None) -> float:
    return evaluate(target, table, k, by_family=True, seed=seed, like=like)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--points", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--families", action="store_true")
    args = parser.parse_args()
    of = family_error if args.families else error
    sets = device_sets(args.data)
    profiled = {
        name: Known(name, target, nas.LatencyModel.fit(list(table.cost), list(table.latency_ms), target))
        for name, (target, table) in sets.items()
    }
    print(f"{'device and runtime':46} {'started from':46}" + "".join(f"{f'{k} points':>14}" for k in args.points))
    rows = []
    for name, (target, table) in sets.items():
        like, row = nearest(target, profiled), []
        for k in args.points:
            row += [float(np.mean([of(target, table, seed, k, x) for seed in range(args.seeds)])) for x in (None, like)]
        rows.append(row)
        print(f"{name:46} {like.name:46}" + cells(row), flush=True)
    for name, middle in (("mean", np.mean(rows, axis=0)), ("median", np.median(rows, axis=0))):
        print(f"{name:93}" + cells(middle.tolist()))


def cells(row: list[float]) -> str:
    pairs = zip(row[::2], row[1::2], strict=True)
    return "".join(f"{a:7.1f}{b:7.1f}" for a, b in pairs)


if __name__ == "__main__":
    main()
