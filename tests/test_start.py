"""`nas train --init`: a run that starts from another's weights."""

import json
import shutil

import pytest
from nas_command import nas_command, tiny_space

from nas.search import run_folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with `first`, a trained run, and `second`, which goes on from it."""
    folder = tmp_path_factory.mktemp("start")
    first = nas_command("train", "--run", folder / "first", "--space", tiny_space(folder), "--steps", 8, "--seed", 3)
    assert first.code == 0, first.err
    result = second(folder)
    assert result.code == 0, result.err
    return folder


def second(folder):
    return nas_command("train", "--run", folder / "second", "--steps", 4, "--init", folder / "first")


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


WRONG = [
    (["--init", "nothing"], "nothing holds no run (run.json)"),
    (
        ["--init", "first", "--task", "fashion-mnist"],
        "is a run of task 'digits', not 'fashion-mnist'; name another --i",
    ),
    (["--init", "first", "--space", "vit-digits"], "is a run of another space than 'vit-digits'; name another --init"),
    (["--init", "untrained"], "untrained holds no trained supernet; run `nas train --run"),
    (["--init", "first", "--steps", "0"], "training knob steps"),
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
