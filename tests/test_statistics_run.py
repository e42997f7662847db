"""Running statistics of a run: trained, kept in its folder, searched, extracted by the command."""

import pytest
from nas_command import nas_command
from safetensors.torch import load_file

import nas
from nas.search import run_folder

SPACE = """\
from torch import nn


def net(trial):
    width = trial.suggest_int("width", 8, 24, step=8)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10)
    )
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "space.py").write_text(SPACE)
    folder = tmp_path / "run"
    result = nas_command("train", "--space", f"{tmp_path / 'space.py'}:net", "--run", folder, "--steps", 10)
    assert result.code == 0, result.err
    return folder


def test_a_run_evaluates_and_extracts_the_same_numbers(run, tmp_path):
    opened = run_folder.open_run(run)
    assert "2.running_mean" in load_file(opened.weights)
    supernet = opened.supernet()
    numbers = [nas.evaluate_subnet(supernet, opened.task, a) for a in opened.space.enumerate()]
    trained = nas.Supernet(opened.space)
    nas.train(trained, opened.task, opened.recipe)
    assert [nas.evaluate_subnet(trained, opened.task, a) for a in opened.space.enumerate()] == numbers
    options = ("--arch", "smallest", "--out", tmp_path / "out", "--format", "safetensors")
    assert nas_command("extract", "--run", run, *options).code == 0
    (path,) = (tmp_path / "out").rglob("model.safetensors")
    loaded = nas.load(path.parent, opened.space)
    assert nas.evaluate(loaded, opened.task) == nas.evaluate_subnet(trained, opened.task, opened.space.smallest)
