"""`nas train --init [--quantize]`: a run that starts from the weights of another, with policies or without."""

import json
import shutil
from unittest import mock

import pytest
from nas_command import nas_command, tiny_space

from nas.search import answer as answer_files
from nas.search import run_folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with `first`, a trained run, and `second` and (with rounding) `few`, which go on from it."""
    folder = tmp_path_factory.mktemp("start")
    first = nas_command("train", "--run", folder / "first", "--space", tiny_space(folder), "--steps", 8, "--seed", 3)
    assert first.code == 0, first.err
    for result in (second(folder), few(folder)):
        assert result.code == 0, result.err
    return folder


def second(folder):
    return nas_command("train", "--run", folder / "second", "--steps", 4, "--init", folder / "first")


def few(folder):
    start = ("--init", folder / "first", "--quantize", "w8a8,w2a8")
    return nas_command("train", "--run", folder / "few", "--steps", 4, *start)


def test_it_starts_from_the_other_run_and_has_its_knobs(runs):
    one, other = run_folder.open_run(runs / "first"), run_folder.open_run(runs / "second")
    assert other.init == str((runs / "first").resolve())
    assert other.recipe == one.recipe.model_copy(update={"steps": 4})
    before, after = one.supernet(), other.supernet()
    name = next(iter(before.layouts))
    moved = (after.store.get_parameter(name) - before.store.get_parameter(name)).abs().max()
    assert 0 < moved < 4 * 2 * other.recipe.lr  # a few steps away: it did not start anew


def test_the_same_command_again_loads_it_and_options_may_be_left_out(runs):
    stored = (runs / "second" / "supernet.safetensors").read_bytes()
    assert second(runs).code == 0
    assert nas_command("train", "--run", runs / "second").code == 0
    assert (runs / "second" / "supernet.safetensors").read_bytes() == stored


def test_without_a_folder_it_lies_in_the_cache(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    result = nas_command("train", "--init", runs / "first", "--steps", 2)
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["init"] == str((runs / "first").resolve())


def test_learned_steps_are_kept_with_the_weights(runs):
    run = run_folder.open_run(runs / "few")
    assert run.quantization is not None
    assert run.quantization.texts == ["w8a8", "w2a8"]
    supernet = run.supernet()
    assert supernet.steps.keys()
    assert all(key.endswith("/w2") for key in supernet.steps)
    assert any(float(step.detach()) != 0 for step in supernet.steps.values())
    assert len(run_folder.open_run(runs / "second").supernet().steps) == 0
    stored = (runs / "few" / "supernet.safetensors").read_bytes()
    assert few(runs).code == 0
    assert nas_command("train", "--run", runs / "few").code == 0
    assert (runs / "few" / "supernet.safetensors").read_bytes() == stored


@pytest.mark.slow
@pytest.mark.parametrize("other", [(), ("--quantize", "w4a8")], ids=["own", "other"])
def test_it_is_searched_and_extracted_with_its_policies_or_others(runs, tmp_path, other):
    run = tmp_path / "few"
    shutil.copytree(runs / "few", run)
    with mock.patch.object(answer_files, "FORMATS", ("safetensors",)):
        settings = ("--target", "jetson-orin", "--evaluations", 4, "--json")
        result = nas_command("search", "--run", run, *settings, *other)
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    schemes = {v for n, v in answer["architecture"].items() if n.startswith("quantize.")}
    assert schemes <= ({"w4a8"} if other else {"w8a8", "w2a8"})
    options = ("--arch", "best", "--arch", "front:1", "--arch", "smallest", "--format", "safetensors")
    result = nas_command("extract", "--run", run, "--out", tmp_path / "out", *options)
    assert result.code == 0, result.err
    assert f"best: net {answer['id']}, {answer['validation']:.2%} on validation" in result.out


WRONG = [
    (["--init", "nothing"], "nothing holds no run (run.json)"),
    (
        ["--init", "first", "--task", "fashion-mnist"],
        "is a run of task 'digits', not 'fashion-mnist'; name another --i",
    ),
    (["--init", "first", "--space", "vit-digits"], "is a run of another space than 'vit-digits'; name another --init"),
    (["--init", "untrained"], "untrained holds no trained supernet; run `nas train --run"),
    (["--init", "first", "--steps", "0"], "training knob steps"),
    (["--init", "first", "--quantize", "w4a4"], "w4a4 can be evaluated and not shipped"),
    (["--init", "first", "--quantize", "w8a8"], "quantization-aware training with w8a8 gains nothing"),
    (["--quantize", "w4a8"], "quantization-aware training starts from floats; train a run without --quantize"),
    (["--run", "few", "--quantize", "w4a8"], "few is a run with other quantization policies; leave them out or name"),
    (["--run", "first", "--quantize", "w4a8"], "first is a run with other quantization policies"),
    (["--run", "second", "--init", "second"], "not from second; name another --run"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_wrong_input_is_one_sentence_and_nothing_is_written(runs, monkeypatch, arguments, said):
    monkeypatch.chdir(runs)
    shutil.copytree("first", "untrained", ignore=shutil.ignore_patterns("supernet.*"), dirs_exist_ok=True)
    before = {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()}
    result = nas_command("train", *([] if "--run" in arguments else ["--run", "new"]), *arguments)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert said in result.err
    assert {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()} == before
