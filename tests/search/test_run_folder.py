"""What belongs to a run fits together, or is refused by name; a wrong knob leaves nothing behind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from nas_command import tiny_space
from safetensors.torch import load_file, save_file

from nas import UserError
from nas.search import run_folder
from nas.search.run_folder import open_run, prepare_run
from nas.supernet.trainer import History

KNOBS = {"steps": 3, "batch_size": 16, "sampling": "uniform", "distill": "none", "checkpoint_every": 1}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return str(tiny_space(tmp_path_factory.mktemp("space")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, space):
    folder = tmp_path_factory.mktemp("runs") / "one"
    prepare_run(folder, "digits", space, KNOBS).trained()
    return folder


@pytest.fixture
def run(tmp_path, trained):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_what_starts_from_a_progressive_training_draws_from_the_whole_space(tmp_path, space):
    prepare_run(tmp_path / "first", "digits", space, {**KNOBS, "sampling": "progressive"}).trained()
    for stated, sampling in (({}, "uniform"), ({"sampling": "progressive"}, "progressive")):
        run = prepare_run(tmp_path / "second", None, None, {"steps": 2, **stated}, init=tmp_path / "first")
        assert run.recipe.sampling == sampling


def flip(path: Path, at: float) -> None:
    """Flip a bit at this share of the file."""
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("at", [0, 0.001, 0.5, 1])
@pytest.mark.parametrize("name", ["run.json", "history.json", "manifest.json", "supernet.safetensors"])
def test_a_flipped_bit_is_found_before_anything_is_done(run, name, at):
    flip(run / name, at)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        open_run(run)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[1, 2]", b"{}", b'{"task": 5, "space": 5, "recipe": null}', bytes(99)]
)
@pytest.mark.parametrize("name", ["run.json", "history.json", "manifest.json", "supernet.safetensors"])
def test_other_content_is_refused_by_name(run, name, content):
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        open_run(run)


def test_a_run_edited_to_another_space_and_weights_of_another_origin_are_refused(run):
    text = (run / "run.json").read_text()
    edited = json.loads(text)
    edited["space"]["transformer"]["head_dim"] = 8
    (run / "run.json").write_text(json.dumps(edited, indent=1))
    with pytest.raises(UserError, match=r"run\.json is damaged or of another origin"):
        open_run(run)
    (run / "run.json").write_text(text)
    weights = run / "supernet.safetensors"
    save_file({name: t + 1 for name, t in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match=r"supernet\.safetensors is damaged or of another origin"):
        open_run(run)
    (run / "manifest.json").unlink()
    with pytest.raises(UserError, match="trained by an older version of nas, or is of another origin"):
        open_run(run)


def test_a_damaged_checkpoint_gives_way_to_the_older_one_and_the_weights_are_the_same(run, trained):
    (run / "supernet.safetensors").unlink()
    flip(run / "checkpoints" / "step-000003.safetensors", 0.5)
    flip(run / "checkpoints" / "step-000002.json", 0.5)
    with pytest.raises(UserError, match=r"no checkpoint in .*step-000003.*cannot be read"):
        open_run(run).trained()
    shutil.copy(trained / "checkpoints" / "step-000002.json", run / "checkpoints")
    open_run(run).trained()
    found, expected = (load_file(folder / "supernet.safetensors") for folder in (run, trained))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    (event,) = open_run(run).history().events
    assert "step-000003" in event
    assert "the training went on from step 2" in event


def test_weights_that_are_not_finite_are_never_kept(tmp_path, space, monkeypatch):
    def ruined(_, supernet, *__):
        next(iter(supernet.store.parameters())).data.fill_(float("nan"))
        return History()

    monkeypatch.setattr(run_folder, "train_in", ruined)
    with pytest.raises(UserError, match=r"numbers of .* are not finite"):
        prepare_run(tmp_path / "run", "digits", space, KNOBS).trained()
    assert not (tmp_path / "run" / "supernet.safetensors").exists()


@pytest.mark.parametrize(
    ("knob", "value", "said"),
    [
        ("seed", -1, "seed: input should be greater than or equal to 0, got -1"),
        ("lr", float("inf"), "lr: input should be a finite number, got inf"),
        ("weight_decay", float("nan"), "weight_decay: input should be a finite number, got nan"),
        ("batch_size", 10**20, "batch_size: input should be less than or equal to 1000000000"),
        ("batch_size", 5000, "batch size 5000 must be between 1 and "),
    ],
)
def test_a_wrong_knob_is_said_before_anything_is_written(tmp_path, space, knob, value, said):
    with pytest.raises(UserError, match=said):
        prepare_run(tmp_path / "run", "digits", space, {knob: value}).trained()
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_made_nothing_yet_takes_other_knobs(tmp_path, space):
    prepare_run(tmp_path / "run", "digits", space, {"lr": 1e30}).save()
    assert prepare_run(tmp_path / "run", None, None, {"lr": 0.001}).recipe.lr == 0.001
