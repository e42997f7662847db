"""How long commands take to begin, and a large space to be discovered, in CPU seconds of their processes.

    python scripts/bench_startup.py [--runs 7] [--run TRAINED_RUN]

Commands are run as users run them; figures are medians, beside that of `python -c "import torch"` in the same run.
With --run, a search of 200 evaluations on a copy of a trained run folder is timed, too.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

NAS = [sys.executable, "-c", "from nas.cli import main; main()"]
COMMANDS = {
    'python -c "import torch"': ([sys.executable, "-c", "import torch"], None),
    "nas --help": ([*NAS, "--help"], 0.25),
    "nas search --target jetson-orion": ([*NAS, "search", "--target", "jetson-orion"], 0.5),
    "nas devices": ([*NAS, "devices"], 0.6),
    'python -c "import nas"': ([sys.executable, "-c", "import nas"], 1.15),
    'python -c "import nas; nas.SearchSpace"': ([sys.executable, "-c", "import nas; nas.SearchSpace"], None),
}
DISCOVERY = """
import time
from torch import nn
import nas

class Mixer(nn.Module):
    def __init__(self, kind, width):
        super().__init__()
        if kind % 2:
            self.up, self.down = nn.Linear(width, 8 * kind), nn.Linear(8 * kind, width)
        else:
            self.conv = nn.Conv1d(width, width, kind + 1, groups=width)

class Block(nn.Module):
    def __init__(self, width, kind, hidden):
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(width), Mixer(kind, width)
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

def space(trial):
    width = trial.suggest_int("width", 32, 64, step=16)
    kinds = [f"mixer{kind}" for kind in range(40)]
    return nn.Sequential(
        *(
            Block(
                width,
                kinds.index(trial.suggest_categorical(f"layers.{i}.mixer", kinds)),
                trial.suggest_int(f"layers.{i}.ffn", 64, 256, step=64),
            )
            for i in range(12)
        )
    )

nas.SearchSpace(lambda trial: nn.Linear(1, trial.suggest_int("width", 1, 2)))
start = time.process_time()
nas.SearchSpace(space)
print(time.process_time() - start)
"""
DISCOVERY_GOAL = 3.0


def cpu_seconds(command: list[str]) -> float:
    """User and system time of the process; its output is dropped, and so is its exit code (a wrong word has one)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def discovery_seconds() -> float:
    ended = subprocess.run([sys.executable, "-c", DISCOVERY], capture_output=True, text=True, check=True)
    return float(ended.stdout)


def search_seconds(run: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(run, Path(folder) / "run")
        return cpu_seconds([*NAS, "search", "--run", str(copy), "--target", "jetson-orin", "--budget", "60%"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--run", type=Path, help="A trained run folder.")
    arguments = parser.parse_args()
    cpu_seconds(COMMANDS["nas devices"][0])  # profiles are fitted once
    # In turns, so that a busy phase of the machine meets all of them.
    times = [[cpu_seconds(command) for command, _ in COMMANDS.values()] for _ in range(arguments.runs)]
    medians = [median(column) for column in zip(*times, strict=True)]
    print(f"{'command':42} {'CPU s':>6} {'x torch':>8} {'goal':>6}")
    for name, (_, goal), seconds in zip(COMMANDS, COMMANDS.values(), medians, strict=True):
        print(f"{name:42} {seconds:6.2f} {seconds / medians[0]:8.2f} {'' if goal is None else f'{goal:6.2f}'}")
    found = median(discovery_seconds() for _ in range(3))
    print(f"{'discovery, 12 layers of 40 mixers':42} {found:6.2f} {'':8} {DISCOVERY_GOAL:4.0f} s")
    if arguments.run:
        print(f"{'nas search, 200 evaluations':42} {search_seconds(arguments.run):6.2f}")


if __name__ == "__main__":
    main()
