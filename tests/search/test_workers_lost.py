"""Searches by Ray that are killed, interrupted, or lose a machine; and those of the command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from nas_command import ask, tiny_space

import nas

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")

SPACE = nas.GeneSpace({"a": [1, 2, 3, 4], "b": ["x", "y"], "c": [0.1, 0.2, 0.5], "d": [True, False], "e": [8, 16, 64]})
GAIN = nas.maximize(lambda a: a["a"] + 10 * a["c"])
ALONE = {"cost": nas.minimize(lambda a: a["a"] * a["e"]), "gain": GAIN}
SEARCH = """
import signal, sys, time, nas
signal.signal(signal.SIGINT, signal.default_int_handler)
LOG = sys.argv[2]
def cost(a):
    time.sleep(0.1)
    with open(LOG, "a") as file:
        file.write(a.id + "\\n")
    return a["a"] * a["e"]
space = nas.GeneSpace({"a": [1, 2, 3, 4], "b": ["x", "y"], "c": [0.1, 0.2, 0.5], "d": [True, False], "e": [8, 16, 64]})
nas.search(space, {"cost": nas.minimize(cost), "gain": nas.maximize(lambda a: a["a"] + 10 * a["c"])}, evaluations=60,
           storage=sys.argv[1], workers=2, progress=lambda done, *_: print("done", done, flush=True))
"""


def noted(path: Path) -> Callable[[nas.Architecture], float]:
    """An objective that takes a while and writes down what it has evaluated."""

    def cost(a: nas.Architecture) -> float:
        time.sleep(0.05)
        with path.open("a") as file:
            file.write(a.id + "\n")
        return a["a"] * a["e"]

    return cost


def started(folder: Path, enough: int) -> subprocess.Popen[str]:
    """A search in a process of its own that has evaluated so many."""
    script = folder / "search.py"
    script.write_text(SEARCH)
    command = [sys.executable, str(script), str(folder / "s.db"), str(folder / "log")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("done") and int(line.split()[1]) >= enough:
            return child
    raise AssertionError(child.communicate())


def descendants(pid: int) -> set[int]:
    found = {int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return found.union(*(descendants(p) for p in found if Path(f"/proc/{p}").exists()))


def end_within(pids: set[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def quiet(log: Path) -> None:
    """Until nothing more is written: workers end what they are at before they see that they are alone."""
    size = -1
    while size != (size := log.stat().st_size):
        time.sleep(3)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_mid_batch_it_asks_for_the_missing_only(tmp_path: Path, how: signal.Signals) -> None:
    child = started(tmp_path, 13)
    family = descendants(child.pid)
    assert family
    os.kill(child.pid, how)
    _, err = child.communicate(timeout=60)
    assert child.returncode in (-how, 130)
    if how == signal.SIGINT:  # after SIGKILL two of Ray's own agents take a minute to see that they are alone
        assert err.strip().endswith("KeyboardInterrupt")
        assert end_within(family, 30)
    quiet(tmp_path / "log")
    stored = len(optuna.load_study(study_name="nas", storage=f"sqlite:///{tmp_path / 's.db'}").trials)
    assert 13 <= stored < 60
    before = len((tmp_path / "log").read_text().split())
    objectives = {"cost": nas.minimize(noted(tmp_path / "log")), "gain": GAIN}
    resumed = nas.search(SPACE, objectives, evaluations=60, storage=tmp_path / "s.db", workers=2)
    assert not ray.is_initialized()
    alone = nas.search(SPACE, ALONE, evaluations=60)
    assert resumed.evaluations == alone.evaluations
    assert resumed.trials().equals(alone.trials())
    assert len((tmp_path / "log").read_text().split()) - before == 60 - stored


def test_a_machine_is_lost_in_mid_search(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()

    def lose(done: int, *_: object) -> None:
        if done == 12:
            cluster.remove_node(node, allow_graceful=False)

    objectives = {"cost": nas.minimize(noted(tmp_path / "log")), "gain": GAIN}
    try:
        study = nas.search(SPACE, objectives, evaluations=60, ray=cluster.address, progress=lose)
        assert not ray.is_initialized()
        ray.init(address=cluster.address)  # the cluster goes on
        end = time.monotonic() + 60  # it takes a while to be told
        while ray.cluster_resources()["CPU"] != 1 and time.monotonic() < end:
            time.sleep(0.5)
        assert ray.cluster_resources()["CPU"] == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert study.evaluations == nas.search(SPACE, ALONE, evaluations=60).evaluations
    evaluated = (tmp_path / "log").read_text().split()
    assert len(set(evaluated)) == 60
    assert len(evaluated) <= 60 + 2  # what its two workers were at


OWN_SPACE = """
from torch import nn
from my_layers import Wide

def net(trial, input_shape, classes):
    width = trial.suggest_int("width", 8, 32, step=8)
    layers = [nn.Flatten(), nn.Linear(64, width), Wide(width, trial.suggest_int("ffn", 8, 64, step=8))]
    return nn.Sequential(*layers, nn.Linear(width, classes))
"""
OWN_LAYERS = """
from torch import nn

class Wide(nn.Sequential):
    def __init__(self, width, ffn):
        super().__init__(nn.Linear(width, ffn), nn.ReLU(), nn.Linear(ffn, width))
"""


def test_the_command_with_workers_writes_the_same_front(tmp_path: Path) -> None:
    (tmp_path / "my_layers.py").write_text(OWN_LAYERS)
    (tmp_path / "my_space.py").write_text(OWN_SPACE)
    for name, space in {"yaml": tiny_space(tmp_path), "python": f"{tmp_path / 'my_space.py'}:net"}.items():
        fronts = []
        for workers in (1, 2):
            run = tmp_path / f"{name}-{workers}"
            result = ask(run, space, "--workers", workers)
            assert result.code == 0, result.err
            assert not ray.is_initialized()
            fronts.append((run / "front.csv").read_bytes())
        assert fronts[0] == fronts[1]


def test_no_cluster_is_said_before_anything_is_written(tmp_path: Path) -> None:
    result = ask(tmp_path / "run", tiny_space(tmp_path), "--ray", "nonsense")
    assert result.code == 2
    assert "no Ray cluster answers at 'nonsense'" in result.err
    assert not (tmp_path / "run").exists()
