"""A user's own space, written in plain PyTorch: with the command, with the API, with a real Optuna trial."""

import inspect
import json
import textwrap

import example_spaces
import optuna
import pandas as pd
import pytest
import torch
from nas_command import nas_command

import nas
from nas.files import sha256_of
from nas.search import answer as answer_files
from nas.search.manifest import write_manifest
from nas.search_space import python_file
from nas.tasks import Split, Task

HEADER = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n\n"


@pytest.fixture
def space_file(tmp_path):
    """The design's `vit` in a file of its own, with its classes in a neighbour."""
    parts = (example_spaces.Block, example_spaces.ViT)
    (tmp_path / "my_layers.py").write_text(HEADER + "\n\n".join(map(inspect.getsource, parts)))
    path = tmp_path / "my_space.py"
    path.write_text("from my_layers import Block, ViT\n\n" + inspect.getsource(example_spaces.vit))
    return path


def test_the_command_takes_a_function_of_a_file(tmp_path, space_file):
    run = tmp_path / "run"
    arguments = ["--space", f"{space_file}:vit", "--run", run, "--steps", 5, "--evaluations", 6]
    result = nas_command("search", "--target", "raspberry-pi-5", "--budget", "80%", *arguments)
    assert result.code == 0, result.err
    model, architecture = nas.load(run / "best"), (run / "best" / "architecture.json").read_text()
    assert len(model.blocks) == nas.Architecture.from_json(architecture)["depth"]
    assert f"{nas.evaluate(model, nas.load_task('digits')):.2%} of" in result.out
    assert (run / "best" / "model.onnx").exists()


def test_a_space_file_that_changed_is_not_taken_for_the_old_one(tmp_path, space_file, monkeypatch):
    monkeypatch.setattr(answer_files, "FORMATS", ("safetensors",))
    run = tmp_path / "run"
    assert nas_command("train", "--space", f"{space_file}:vit", "--run", run, "--steps", 2).code == 0
    space_file.write_text(space_file.read_text().replace("64, 96", "48, 96"))
    for command in (["train", "--run", run, "--space", f"{space_file}:vit"], ["health", run]):
        result = nas_command(*command)
        assert result.code == 2
        assert result.err.count("\n") == 1
    assert "changed since" in result.err


def test_a_strangers_run_runs_no_code_unless_it_is_trusted(tmp_path, space_file, monkeypatch):
    run, ran = tmp_path / "run", tmp_path / "ran"
    assert nas_command("train", "--space", f"{space_file}:vit", "--run", run, "--steps", 2).code == 0
    space_file.write_text(f"open({str(ran)!r}, 'w').close()\n{space_file.read_text()}")
    content = json.loads((run / "run.json").read_text())
    content["space"]["sha256"] = sha256_of(space_file)
    (run / "run.json").write_text(json.dumps(content))
    write_manifest(run / "manifest.json", {p.name: sha256_of(p) for p in run.glob("*.safetensors")})
    monkeypatch.setattr(python_file, "_approved", {})  # another process, of another user
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "mine"))
    for command in (["extract", "--run", run, "--arch", "smallest"], ["health", run], ["train", "--run", run]):
        result = nas_command(*command)
        assert (result.code, "would run the code of" in " ".join(result.err.split())) == (2, True)
    assert not ran.exists()
    result = nas_command("extract", "--run", run, "--arch", "smallest", "--format", "safetensors", "--trust")
    assert result.code == 0, result.err
    assert ran.exists()


def test_a_file_may_hold_dataclasses_and_a_finished_space(tmp_path):
    """String annotations make a dataclass look up its module; a SearchSpace may bring layout rules."""
    path = tmp_path / "ready.py"
    path.write_text(
        textwrap.dedent(
            """\
            from __future__ import annotations

            from dataclasses import dataclass

            import nas
            from torch import nn


            @dataclass
            class Sizes:
                width: int = 8


            def net(trial):
                width = trial.suggest_categorical("width", [Sizes().width, 16])
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 3 * width), nn.Linear(3 * width, 10))


            space = nas.SearchSpace(net, layouts={"1.*": (3, -1)})
            """
        )
    )
    result = nas_command("space", "show", f"{path}:space")
    assert result.code == 0, result.err
    assert "2 architectures" in result.out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nonexistent_thing", "ModuleNotFoundError"),
        ("def vit(trial): return 3", "it must return a torch.nn.Module"),
        ("def vit(:", "SyntaxError"),
    ],
)
def test_a_broken_space_file_is_one_sentence(tmp_path, code, said):
    (tmp_path / "mine.py").write_text(code)
    result = nas_command("search", "--space", f"{tmp_path / 'mine.py'}:vit", "--run", tmp_path / "run")
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", ["widht: [16, 32]", "mixer: [sofmax]"])
def test_a_wrong_yaml_names_the_file_and_what_would_be_right(tmp_path, field):
    path = tmp_path / "mine.yaml"
    path.write_text(field)
    result = nas_command("space", "show", path)
    assert result.code == 2
    assert str(path) in result.err
    assert {"widht": "width", "mixer": "softmax"}[field.partition(":")[0]] in result.err


# A decoder in the style of nanoGPT, unmodified, with one layout rule


TOKENS = torch.arange(32).view(2, 16)


def characters() -> Task:
    """Next character of a periodic text, learnt in a few steps."""
    text = torch.tensor([(i * i) % 7 + 10 * (i % 3) for i in range(1500)])
    windows = text.unfold(0, 17, 4)
    rows = [windows[:300], windows[300:330], windows[330:360]]
    train, validation, test = (Split(r[:, :16].contiguous(), r[:, 16].contiguous()) for r in rows)
    facts = {"space": "", "source": "", "preprocessing": ""}
    labels = tuple(map(str, range(50)))
    return Task(name="characters", train=train, validation=validation, test=test, labels=labels, **facts)


class LastLogits(torch.nn.Module):
    """Tasks give floats and ask for one answer; the GPT takes indices and returns logits of every place and a loss."""

    def __init__(self, gpt: torch.nn.Module) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gpt(x.long())[0][:, -1]


def last_logits(trial):
    return LastLogits(example_spaces.gpt(trial))


def test_a_third_party_decoder_trains_and_extracts_to_the_bit():
    space, task = nas.SearchSpace(last_logits, layouts=example_spaces.GPT_LAYOUTS), characters()
    assert space.check(TOKENS) == []
    supernet = nas.Supernet(space)
    history = nas.train(supernet, task, steps=60, lr=1e-2)
    assert history.rows[-1]["largest_loss"] < 0.5 * history.rows[0]["largest_loss"]
    for architecture in (space.smallest, space.largest):
        with torch.no_grad():
            assert torch.equal(supernet.extract(architecture)(task.example), supernet(task.example, architecture))
    alone = nas.train_alone(space, space.smallest, task, nas.Recipe(steps=60, lr=1e-2, sampling="uniform"))
    assert alone.state_dict().keys() == supernet.extract(space.smallest).state_dict().keys()
    assert nas.evaluate(alone, task) > 0.5


def test_without_the_rule_the_fused_projection_is_doubted():
    doubts = nas.SearchSpace(last_logits).check(TOKENS)
    assert any("c_attn" in finding.message for finding in doubts)


# Optuna


def test_a_real_optuna_trial_builds_the_nets_of_the_space():
    space = nas.SearchSpace(example_spaces.vit)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        net = example_spaces.vit(trial)
        assert trial.params in space
        assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
        assert {n: p.shape for n, p in net.named_parameters()} == {
            n: p.shape for n, p in space.skeleton(space.architecture(trial.params)).named_parameters()
        }
        return float(sum(p.numel() for p in net.parameters()))

    study.optimize(objective, n_trials=10)
    assert isinstance(study.trials_dataframe(), pd.DataFrame)
    assert study.best_value < max(t.value for t in study.trials)
