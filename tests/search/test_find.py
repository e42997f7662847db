"""`nas.find`: the whole job from Python, on tasks of a user's own and as the command does it."""

import json
from functools import partial

import pandas as pd
import pytest
import torch
from nas_command import nas_command, tiny_space
from torch import nn

import nas

STEPS, EVALUATIONS = 12, 8
X = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0, -2.0, 0.5, 0.0, 3.0, -1.0]]).T + 0.1 * torch.sin(3 * X[:, :1])


class Regression(nn.Module):
    def __init__(self, trial):
        super().__init__()
        width = trial.suggest_int("width", 4, 32, step=4)
        self.first = nn.Linear(6, width)
        self.norm = nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(trial.suggest_int("depth", 1, 3)))
        self.last = nn.Linear(width, 1)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        for block in self.blocks:
            x = x + block(x).relu()
        return self.last(x)


class Pair(Regression):
    """The same function of two inputs, by name, that returns a dictionary."""

    def forward(self, left, right):
        return {"prediction": super().forward(torch.cat([left, right], dim=1))}


class Fixed(nn.Linear):
    def __init__(self, trial):
        super().__init__(6, trial.suggest_int("outputs", 1, 1))


def split(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    return X[rows], Y[rows]


@pytest.fixture(scope="module")
def space():
    return nas.SearchSpace(Regression)


@pytest.fixture(scope="module")
def task():
    return nas.Task.of(split(slice(160)), split(slice(160, 240)), loss=nn.MSELoss(), metric="mse", name="line")


@pytest.fixture(scope="module")
def find(space, task):
    job = {"targets": {"jetson-orin": "90%"}, "steps": STEPS, "evaluations": EVALUATIONS, "check": False}
    return partial(nas.find, space, task, **job)


@pytest.fixture(scope="module")
def answer(find):
    return find(check=True)


def test_the_model_is_the_net_of_the_answer(answer, task):
    model = answer.model()
    assert not model.training
    assert nas.evaluate(model, task) == answer.quality
    assert answer.model() is not model
    assert answer.latency.low < answer.latency.value < answer.latency.high


def test_less_is_better_where_the_task_says_so(answer):
    kept = [e for e in answer.choice.study.evaluations if e.feasible]
    assert len(kept) < EVALUATIONS
    assert answer.quality == min(e.metrics["mse"] for e in kept)
    assert list(answer.front["mse"]) == sorted(answer.front["mse"])
    assert {"latency_low_ms", "latency_high_ms", "verdict", "params"} <= {*answer.front}


def test_a_missing_test_split_is_said_and_no_number_is_stated(answer):
    assert answer.test is None
    assert "Task 'line' has no test split; no test quality is stated." in answer.notes


def test_nothing_is_written_until_it_is_saved(find, tmp_path, monkeypatch, task, space):
    monkeypatch.chdir(tmp_path)
    stages = []
    answer = find(progress=lambda *told: stages.append(told[:3]))
    assert not list(tmp_path.iterdir())
    assert [s for s in stages if s[0] == "Training"] == [("Training", i, STEPS) for i in range(1, STEPS + 1)]
    assert ("Searching", EVALUATIONS, EVALUATIONS) in stages
    answer.save("out", ["safetensors"])
    assert nas.evaluate(nas.load("out", space), task) == answer.quality
    assert pd.read_csv("out/front.csv")["id"].tolist() == answer.front["id"].tolist()
    assert "nas.load('.', space)" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(nas.UserError, match="the space is a Python object, which files do not hold"):
        nas.load("out")
    answer.report("report.html")
    assert answer.architecture.id in (tmp_path / "report.html").read_text()


def test_a_run_goes_on_and_gives_the_same(find, answer, tmp_path, task):
    class Killed(Exception):
        pass

    def kill(stage, done, *_):
        if (stage, done) == ("Searching", 4):
            raise Killed

    with pytest.raises(Killed):
        find(run=tmp_path / "run", progress=kill)
    trained = (tmp_path / "run" / "supernet.safetensors").stat().st_mtime_ns
    evaluated = []
    again = find(run=tmp_path / "run", progress=lambda stage, done, *_: evaluated.append((stage, done)))
    assert [done for stage, done in evaluated if stage == "Searching"] == list(range(5, EVALUATIONS + 1))
    assert (tmp_path / "run" / "supernet.safetensors").stat().st_mtime_ns == trained
    assert (again.architecture, again.quality) == (answer.architecture, answer.quality)
    assert nas.evaluate(nas.load(tmp_path / "run" / "best", answer.origin.space), task) == answer.quality
    assert any("`nas extract --run` cannot open it" in note for note in again.notes)
    result = nas_command("extract", "--run", tmp_path / "run", "--arch", "best")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "is a Python object" in result.err


def test_a_run_of_another_task_or_space_is_refused(find, task, tmp_path):
    find(run=tmp_path, evaluations=2)
    other = nas.Task.of(split(slice(100)), split(slice(160, 240)), metric="mse", name="line")
    with pytest.raises(nas.UserError, match=r"is a run of task .*160 samples.*, not .*100 samples"):
        nas.find(Regression, other, targets="jetson-orin", run=tmp_path)
    with pytest.raises(nas.UserError, match="is a run of another space than the given one"):
        nas.find(Fixed, task, targets="jetson-orin", run=tmp_path)


def test_a_given_supernet_is_not_trained_and_its_nets_may_be_quantized(answer, task, space, tmp_path):
    supernet, stages = answer.candidates.supernet, set()
    found = nas.find(
        None, task, targets="jetson-orin", supernet=supernet, quantize="w8a8,w4a16", evaluations=4,
        progress=lambda stage, *_: stages.add(stage),
    )  # fmt: skip
    assert "Training" not in stages
    assert any(name.startswith("quantize.") for name in found.architecture)
    assert nas.evaluate(found.model(), task) == found.quality
    found.save(tmp_path / "out", ["safetensors"])
    assert nas.evaluate(nas.load(tmp_path / "out", space), task) == found.quality
    with pytest.raises(nas.UserError, match="a supernet that is given"):
        nas.find(None, task, targets="jetson-orin", supernet=supernet, run="auto")


def test_each_target_and_limits_of_one_or_of_all(find, answer):
    supernet = answer.candidates.supernet
    own = find(
        supernet=supernet, targets=["jetson-orin", "t4"], limits={"params": "1K", "t4": {"flops": 200}}, each=True
    )
    assert list(own) == ["jetson-orin", "t4"]
    assert (own["jetson-orin"].front["params"] <= 1000).all()
    assert own["jetson-orin"].front["flops"].max() > 200 >= own["t4"].front["flops"].max()
    both = find(
        supernet=supernet, targets={"jetson-orin": None, "t4": "80%"}, limits=[nas.Limit(nas.values.PARAMS, 1e3)]
    )
    assert (both.front["params"] <= 1000).all()
    assert both.choice.limits["latency_ms on t4"] >= both.choice.costs["latency_ms on t4"].value


def test_an_impossible_budget_names_the_fastest_net(find):
    with pytest.raises(
        nas.Infeasible, match=r"no net of the space keeps latency at most 1e-06 ms on jetson-orin\. The"
    ):
        find(targets={"jetson-orin": "0.001us"})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"targets": []}, "targets must name at least one device, got none"),
        ({"targets": ["t4", "t4"]}, "each target can be given once, not t4, t4"),
        ({"targets": "jetson-orion"}, "jetson-orion"),
        ({"limits": {"parms": 3}}, "unknown objective 'parms'; valid: params"),
        ({"limits": {"params": -1}}, "parameters must be a number above zero or a text such as 2M, got -1"),
        ({"limits": {"memory_mib": "50ms"}}, "'50ms' is not understood"),
        ({"limits": {"t4": {"params": 1}}}, "unknown target in limits: 't4'"),
        ({"limits": [nas.Limit(nas.values.LATENCY, 5, "t4")]}, "a limit on t4, which is not a target"),
        ({"objectives": ["energy"]}, "unknown objective 'energy'; valid: energy_mj"),
        ({"algorithm": "nsga3"}, "unknown algorithm 'nsga3'"),
        ({"quantize": "w9"}, "quantization 'w9' is not understood"),
        ({"evaluations": 0}, "evaluations must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"run": "auto"}, "a task or a space that is a Python object needs a run folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(find, asked, said):
    with pytest.raises(nas.UserError) as error:
        find(**asked)
    assert said in str(error.value)


@pytest.mark.parametrize("space", [3, nn.Linear(1, 1).weight])
def test_a_space_must_be_one(task, space):
    with pytest.raises(nas.UserError, match="space must be a SearchSpace, a space function, or a name"):
        nas.find(space, task)


def test_the_command_finds_the_same(tmp_path):
    tiny = tiny_space(tmp_path)
    result = nas_command(
        "search", "--space", tiny, "--target", "jetson-orin", "--budget", "0.5ms", "--steps", 4, "--evaluations", 5,
        "--seed", 3, "--run", tmp_path / "run", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    command = json.loads(result.out)
    answer = nas.find(str(tiny), "digits", targets={"jetson-orin": "0.5ms"}, steps=4, evaluations=5, seed=3)
    assert dict(answer.architecture) == command["architecture"]
    assert (answer.quality, answer.test) == (command["validation"], command["test"])
    assert [row["id"] for row in command["front"]] == answer.front["id"].tolist()


def test_inputs_by_name_go_through_answer_and_bundle(tmp_path):
    rows = [{"left": x[:2], "right": x[2:], "target": y} for x, y in zip(X, Y, strict=True)]
    task = nas.Task.of(
        rows[:160], rows[160:], inputs=("left", "right"), target="target", output="prediction",
        loss=nn.MSELoss(), metric=("error", lambda p, t: float((p - t).abs().mean())), better="min",
    )  # fmt: skip
    answer = nas.find(Pair, task, targets="jetson-orin", steps=5, evaluations=3)
    assert nas.evaluate(answer.model(), task) == answer.quality
    inputs = {"left": X[:3, :2], "right": X[:3, 2:]}
    for formats in (["safetensors"], ["safetensors", "onnx"]):
        folder = answer.save(tmp_path / "-".join(formats), formats)
        readme = (folder / "README.md").read_text()
        assert "left: float32 (batch, 2); right: float32 (batch, 4)" in readme
        assert "outputs = model(left=left, right=right)" in readme
        assert "Output: values, in its part 'prediction'." in readme
        model = nas.load(folder, answer.origin.space)
        torch.testing.assert_close(model(**inputs), answer.model()(**inputs), rtol=0, atol=0)
    onnx = nas.load(folder, format="onnx")
    torch.testing.assert_close(onnx(**inputs)["prediction"], model(**inputs)["prediction"])
