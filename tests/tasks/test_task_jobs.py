"""Each built-in task that is neither images nor classes goes through the whole command, with a space of seconds."""

import json
from unittest import mock

import numpy as np
import onnxruntime
import pytest
import torch
from nas_command import nas_command

import nas
from nas.search import answer as answer_files
from nas.search_space.inputs import call

SMALL = "width: [16, 24]\nlayers: 2\nleast_layers: 1\nhead_dim: 8\nffn_ratio: [0.5, 1]\n"
SPACES = {
    "diabetes": "stem: features\nposition: none\nreadout: cls\n",
    "text": "stem: tokens\nreadout: dense\ncausal: true\nnorm: rmsnorm\n",
    "tags": "stem: tokens\nreadout: dense\n",
    "shapes": "patch: 4\nreadout: pixels\n",
}


@pytest.fixture(scope="module", params=SPACES)
def job(request, tmp_path_factory):
    """Task, run folder and answer of a search with bits as genes."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "space.yaml").write_text(SPACES[request.param] + SMALL)
    space = ("--space", folder / "space.yaml", "--target", "raspberry-pi-5", "--budget", "90%")
    with mock.patch.object(answer_files, "FORMATS", ("safetensors", "onnx")):
        size = ("--steps", 6, "--evaluations", 4, "--quantize", "auto")
        result = nas_command("search", "--task", request.param, "--run", folder / "run", *space, *size, "--json")
    assert result.code == 0, result.err
    return nas.load_task(request.param), folder / "run", json.loads(result.out)


def test_the_net_that_was_described_is_in_the_folder(job):
    task, run, answer = job
    model = nas.load(run / "best")
    assert nas.evaluate(model, task) == pytest.approx(answer["validation"])
    assert nas.evaluate(model, task, "test") == pytest.approx(answer["test"])
    metric = task.metric
    assert answer["facts"][f"{metric.name} on validation"].startswith(metric.text(answer["validation"]))
    best = min if metric.better == "min" else max
    assert answer["front"][0][metric.name] == best(row[metric.name] for row in answer["front"])


def test_the_onnx_file_computes_the_same(job):
    task, run, answer = job
    inputs = task.example_of(5)
    with torch.no_grad():
        expected = call(nas.load(run / "best"), inputs).numpy()
    session = onnxruntime.InferenceSession(run / "best" / "model.onnx")
    (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    assert output.shape == expected.shape
    assert np.abs(output - expected).max() <= 0.05 * np.abs(expected).max()  # codes of integers may differ by one
    assert answer["parity"]["file"] == pytest.approx(answer["test"], rel=0.01)


def test_what_is_written_speaks_of_this_task(job):
    task, run, _ = job
    page, readme = (run / "report.html").read_text(), (run / "best" / "README.md").read_text()
    assert task.metric.name in page
    assert f"{task.metric.name} on validation" in readme
    assert task.preprocessing in readme
    assert task.postprocessing in readme
    kind = str(task.example.dtype).removeprefix("torch.")
    assert f"Input: {kind} (batch, {', '.join(map(str, task.input_shape))})" in readme


@pytest.mark.slow
def test_health_and_extract(job, tmp_path):
    task, run, _ = job
    result = nas_command("health", run, "--nets", 3, "--steps", 3)
    assert result.code == 0, result.err
    assert "Kendall tau of inherited and alone" in result.out
    result = nas_command("extract", "--run", run, "--arch", "smallest", "--out", tmp_path)
    assert result.code == 0, result.err
    assert f"{task.metric.text(nas.evaluate(nas.load(tmp_path / 'smallest'), task))} on validation" in result.out


@pytest.mark.slow
def test_profiles_of_its_nets(job, tmp_path):
    task, run, _ = job
    options = ("--task", task.name, "--space", run.parent / "space.yaml", "--nets", 5, "--out", tmp_path / "b.zip")
    result = nas_command("profile", "pack", *options)
    assert result.code == 0, result.err
    result = nas_command("space", "show", run.parent / "space.yaml", "--task", task.name)
    assert result.code == 0, result.err
    assert "Doubt:" not in result.out
