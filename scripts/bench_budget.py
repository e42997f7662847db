"""Does the budget hold? Searches for this machine with random budgets; each answer is timed afresh in a new process.

    python scripts/bench_budget.py --run runs/digits [--searches 40] [--target local-cpu]

Budgets lie between 15 and 90 % of the time of the largest net. One is kept if the net takes at most 5 % more.
The run's supernet is trained first where it is not. Printed: one row for each search, then how many budgets held and
which share of them the nets used.
"""

import argparse
import re
import statistics
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np

MARGIN = 1.05
INFEASIBLE = 3
PROCESSES = 3
TIMED = """
import sys, torch, nas
from pathlib import Path
from nas.hw_profiles import Protocol, measure
net, device = Path(sys.argv[1]) / "model-fixed.onnx", nas.load_device(sys.argv[2])
shape = [int(n) for n in sys.argv[3].split(",")]
how = {"runtime": device.local_runtime, "threads": device.threads, "protocol": Protocol(seconds=2.0)}
print(measure(net, torch.zeros(1, *shape), **how).median_ms)
"""


def nas(*arguments: object) -> str | None:
    """What the command printed; None, if no net keeps the budget."""
    done = subprocess.run(["nas", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode not in (0, INFEASIBLE):
        raise SystemExit(done.stderr)
    return done.stdout if done.returncode == 0 else None


def timed(folder: Path, target: str, shape: str) -> float:
    """Milliseconds of an extracted net: the median of fresh processes, for one in ten meets a slow phase."""
    command = [sys.executable, "-c", TIMED, str(folder), target, shape]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(PROCESSES)]
    return statistics.median(float(run.stdout.split()[-1]) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--searches", type=int, default=40)
    parser.add_argument("--target", default="local-cpu")
    parser.add_argument("--shape", default="1,8,8", help="of one input")
    args = parser.parse_args()
    nas("train", "--run", args.run)
    nas("extract", "--run", args.run, "--arch", "largest", "--format", "onnx-fixed", "--out", args.run / "bench")
    largest = timed(args.run / "bench" / "largest", args.target, args.shape)
    print(f"largest net: {largest:.3f} ms")
    print(f"{'budget ms':>9} {'stated':>8} {'afresh':>8} {'of it':>6}  held", flush=True)
    rng, used = np.random.default_rng(0), []
    for seed in count():
        budget = float(rng.uniform(0.15, 0.9)) * largest
        answer = nas(
            "search", "--target", args.target, "--budget", f"{budget:.5f}ms", "--run", args.run, "--seed", seed
        )
        if answer is None:
            print(f"{budget:9.3f} no net of the space is so fast: said so", flush=True)
            continue
        afresh = timed(args.run / "best", args.target, args.shape)
        stated = re.findall(r"latency\W+([\d.]+) ms", answer)[0]
        used.append(afresh / budget)
        print(
            f"{budget:9.3f} {stated:>8} {afresh:8.3f} {used[-1]:6.0%}  {'yes' if used[-1] <= MARGIN else 'NO'}",
            flush=True,
        )
        if len(used) == args.searches:
            break
    kept = sum(share <= MARGIN for share in used)
    print(f"{kept} of {args.searches} budgets held; median use {np.median(used):.0%}")


if __name__ == "__main__":
    main()
