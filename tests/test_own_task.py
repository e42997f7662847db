"""A task and a space of a user's own file, through the whole command."""

import json

import pytest
from nas_command import nas_command

import nas
from nas.supernet.evaluate import evaluate

CODE = """
import torch, nas
from dataclasses import dataclass
from torch import nn

@dataclass
class Output:
    prediction: torch.Tensor

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 1)

    def forward(self, x, y):
        return Output(self.last(torch.relu(self.first(torch.cat([x, y], 1)))))

def space(trial):
    return Net(trial.suggest_int("width", 8, 32, step=8))

def task():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 400, 4, generator=draw)
    rows = [{"x": a, "y": b, "target": (a * b).sum(0, keepdim=True)} for a, b in zip(x, y)]
    return nas.Task.of(train=rows[:300], validation=rows[300:], test=None, inputs=("x", "y"), target="target",
                       output="prediction", loss=nn.MSELoss(), metric=("mse", lambda p, t: ((p - t) ** 2).mean()),
                       better="min")

def broken():
    return 1 / 0

def needy(path):
    return path
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(CODE)
    return path


def test_the_command_takes_a_task_of_a_file(file, tmp_path):
    run = tmp_path / "run"
    asked = ["--task", f"{file}:task", "--space", f"{file}:space", "--run", run, "--steps", 60]
    target = ["--target", "raspberry-pi-5", "--evaluations", 6]
    done = nas_command("search", *asked, *target, "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["metric"] == "mse"
    assert answer["test"] is None
    net = nas.load(run / "best", trust=True)
    task = nas.load_task(f"{file}:task")
    assert task.name == "own.py:task"
    assert evaluate(net, task) == pytest.approx(answer["validation"], rel=1e-5)
    trials = nas_command("search", *asked, *target)
    assert "none: the task has no test split" in (run / "best" / "README.md").read_text()
    assert trials.code == 0, trials.err
    assert nas_command("health", run, "--nets", 3, "--steps", 20).code == 0
    file.write_text(CODE + "# changed")
    changed = nas_command("extract", "--run", run, "--arch", "smallest")
    assert changed.code == 2
    assert "has changed since" in changed.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("broken", "line 30, fails in broken(): ZeroDivisionError: division by zero"),
        ("needy", "needy cannot be called: missing a required argument: 'path'; a task function takes no arguments"),
        ("nothing", "unknown function in own.py 'nothing'; valid: "),
        ("Net", "Net is a type; a task function takes no arguments"),
        ("space", "space cannot be called: missing a required argument: 'trial'"),
    ],
)
def test_what_is_no_task_function_is_one_sentence(file, tmp_path, name, sentence):
    done = nas_command("train", "--task", f"{file}:{name}", "--space", f"{file}:space", "--run", tmp_path / "run")
    assert done.code == 2
    assert sentence in " ".join(done.err.split())
    assert not (tmp_path / "run").exists()


def test_a_task_without_a_default_space_asks_for_one(file, tmp_path):
    done = nas_command("train", "--task", f"{file}:task", "--run", tmp_path / "run")
    assert done.code == 2
    assert "names no default space; give one: --space" in " ".join(done.err.split())
