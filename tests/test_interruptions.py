"""Kill -9 and Ctrl-C: the next call goes on and ends as an undisturbed one."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from nas_command import ask, nas_command, nas_process, question, tiny_space, trials
from safetensors.torch import load_file

from nas.search import answer as answer_files
from nas.search import run_folder
from nas.supernet.train import train_in

INTERRUPTED = "nas: interrupted; the same command goes on where this one stopped\n"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return tiny_space(tmp_path_factory.mktemp("space"))


@pytest.fixture
def light(monkeypatch):
    """No ONNX: it takes seconds."""
    monkeypatch.setattr(answer_files, "FORMATS", ("safetensors",))


def wait_for(condition, process, seconds: float = 120) -> None:
    """Until the condition holds; the process must still be at work then."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def kill(process) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def results(run: Path) -> dict[str, bytes]:
    """What must not depend on interruptions."""
    return {n: (run / n).read_bytes() for n in ("supernet.safetensors", "front.csv", "best/architecture.json")}


def assert_same(disturbed: Path, undisturbed: Path) -> None:
    found, expected = results(disturbed), results(undisturbed)
    assert [n for n in expected if found[n] != expected[n]] == []
    left, right = (json.loads((r / "history.json").read_text())["rows"] for r in (disturbed, undisturbed))
    assert left == right


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_killed_in_training_and_in_search_it_ends_as_if_undisturbed(tmp_path, space):
    settings = {"steps": 110, "evaluations": 32}
    run = tmp_path / "killed"
    process = nas_process(*question(run, space, **settings))
    wait_for(lambda: list(run.glob("checkpoints/step-*.json")), process)
    kill(process)
    assert not (run / "supernet.safetensors").exists()
    process = nas_process(*question(run, space, **settings))
    wait_for(lambda: trials(run) > 3, process)
    kill(process)
    assert not (run / "front.csv").exists()
    assert 3 < trials(run) < 32
    assert ask(run, space, **settings).code == 0
    assert ask(tmp_path / "calm", space, **settings).code == 0
    assert_same(run, tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_killed_again_and_again(tmp_path, space):
    """At moments that have nothing to do with what the process is doing."""
    settings = {"steps": 400, "evaluations": 60}
    run, delays = tmp_path / "killed", np.random.default_rng(0).uniform(2, 9, 8)
    for delay in delays:
        process = nas_process(*question(run, space, **settings))
        try:
            process.communicate(timeout=delay)
            break
        except subprocess.TimeoutExpired:
            kill(process)
    assert ask(run, space, **settings).code == 0
    assert ask(tmp_path / "calm", space, **settings).code == 0
    assert_same(run, tmp_path / "calm")


def test_ctrl_c_leaves_a_run_that_resumes(tmp_path, space, monkeypatch):
    def interrupted(folder, supernet, task, recipe, progress, *more):
        def press(done, total, row):
            progress(done, total, row)
            if done == 101:  # one step behind a checkpoint
                raise KeyboardInterrupt

        return train_in(folder, supernet, task, recipe, press, *more)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "train_in", interrupted)
        result = nas_command("train", "--run", tmp_path / "run", "--space", space, "--steps", 103)
    assert result.code == 130
    assert result.err == INTERRUPTED
    assert nas_command("train", "--run", tmp_path / "run").code == 0  # what is trained stands in run.json
    assert nas_command("train", "--run", tmp_path / "calm", "--space", space, "--steps", 103).code == 0
    run, calm = (load_file(tmp_path / n / "supernet.safetensors") for n in ("run", "calm"))
    assert all(torch.equal(run[n], calm[n]) for n in calm)


@pytest.mark.slow
def test_ctrl_c_of_a_process(tmp_path, space):
    run = tmp_path / "run"
    process = nas_process("train", "--run", run, "--space", space, "--steps", 3000)
    wait_for(lambda: list(run.glob("checkpoints/step-*.json")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == INTERRUPTED
    assert not (run / "supernet.safetensors").exists()
