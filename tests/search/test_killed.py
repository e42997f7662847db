"""A search that is killed at random moments loses what is in flight, and ends as the undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

EVALUATIONS, MOMENTS = 400, 20
PROGRAM = """
import os, sys, time
import nas
space = nas.GeneSpace({f"g{i}": [0, 1, 2, 3] for i in range(8)})

def cost(a):
    time.sleep(0.05)
    with open(sys.argv[2], "a") as log:
        log.write(a.id + "\\n")
    return sum((i + 1) * v for i, v in enumerate(a.values()))

def gain(a):
    return sum(v ** 0.5 for v in a.values())

objectives = {"cost": nas.minimize(cost), "gain": nas.maximize(gain)}
study = nas.search(space, objectives, evaluations=int(sys.argv[3]), storage=sys.argv[1])
print(*(a.id for a in study.architectures))
"""


def start(path: Path, log: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(path), str(log), str(EVALUATIONS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    rng, log, path = np.random.default_rng(0), tmp_path / "log", tmp_path / "study.db"
    for _ in range(MOMENTS):
        before = len(log.read_text().split()) if log.exists() else 0
        process = start(path, log)
        while process.poll() is None and (len(log.read_text().split()) if log.exists() else 0) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.9))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    out, err = start(path, log).communicate()
    calm, _ = start(tmp_path / "calm.db", tmp_path / "calm").communicate()
    assert out == calm, err
    times = Counter(log.read_text().split())
    assert len(times) == EVALUATIONS
    assert sum(times.values()) <= EVALUATIONS + MOMENTS  # one in flight each time
