"""A space whose small nets are no parts of its large ones is refused before it is trained, with what fixes it."""

import pytest
import torch
from nas_command import nas_command
from torch import nn

import nas

WRONG = """
from torch import nn

class Halves(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gates, self.out = nn.Linear(64, 2 * width), nn.Linear(width, 10)

    def forward(self, x):
        a, b = self.gates(x.flatten(1)).chunk(2, 1)
        return self.out(a * b)

def halves(trial):
    return Halves(trial.suggest_int("width", 8, 16, step=8))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "space.py").write_text(WRONG)
    return tmp_path


@pytest.mark.parametrize("command", ["train", "search"])
def test_the_command_refuses_it_and_writes_nothing(folder, command):
    result = nas_command(command, "--space", "space.py:halves", "--run", "run", "--steps", "1")
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert "gene 'width', 16 against 8" in result.err
    assert 'layouts={"gates.weight": (2, -1), "gates.bias": (2, -1)} fixes it' in result.err
    assert "--no-check" in result.err
    assert not (folder / "run").exists()


@pytest.mark.usefixtures("folder")
def test_the_user_may_switch_it_off():
    arguments = ("--space", "space.py:halves", "--run", "run", "--steps", "1")
    assert nas_command("train", *arguments, "--no-check").code == 0
    assert nas_command("train", *arguments).code == 0  # it has begun


class Halves(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gates, self.out = nn.Linear(64, 2 * width), nn.Linear(width, 10)

    def forward(self, x):
        a, b = self.gates(x.flatten(1)).chunk(2, 1)
        return self.out(a * b)


def halves(trial):
    return Halves(trial.suggest_int("width", 8, 16, step=8))


def test_training_refuses_it():
    task = nas.load_task("digits")
    supernet = nas.Supernet(nas.SearchSpace(halves))
    before = supernet.store.state_dict()["gates.weight"].clone()
    with pytest.raises(nas.UserError, match=r"\(2, -1\)} fixes it; to train it all the same: check=False"):
        nas.train(supernet, task, steps=1)
    assert torch.equal(supernet.store.state_dict()["gates.weight"], before)
    nas.train(supernet, task, steps=1, check=False)
    mended = nas.SearchSpace(halves, layouts={"gates.*": (2, -1)})
    nas.train(nas.Supernet(mended), task, steps=1)


def test_what_no_layout_fixes_is_trained_with_a_warning(caplog):
    """Layers of an `nn.Sequential` have other names in nets of other depths."""

    def deep(trial):
        hidden = [m for _ in range(trial.suggest_int("depth", 1, 2)) for m in (nn.Linear(16, 16), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *hidden, nn.Linear(16, 10))

    nas.train(nas.Supernet(nas.SearchSpace(deep)), nas.load_task("digits"), steps=1)
    (record,) = [r for r in caplog.records if r.name == "nas.run"]
    assert "Small nets are not parts of large ones: gene 'depth'" in record.getMessage()


def test_a_space_is_checked_once(monkeypatch):
    task, space = nas.load_task("digits"), nas.SearchSpace(halves, layouts={"gates.*": (2, -1)})
    checks = []
    check = nas.SearchSpace.check
    monkeypatch.setattr(nas.SearchSpace, "check", lambda *given: (checks.append(1), check(*given))[1])
    for _ in range(2):
        nas.train(nas.Supernet(space), task, steps=1)
    assert checks == [1]
