"""The Python of the README and of the docs runs."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    study = scope["study"]
    assert len(study.trials()) == scope["space"].size == 24
    assert (study.front()["params"] <= 10_000).all()
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors", "model.onnx"}


@pytest.mark.slow
def test_the_example_of_a_policy_runs(capsys):
    text = (Path(__file__).parent.parent / "docs" / "quantization.md").read_text()
    example, *_ = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(example, "quantization.md", "exec"), {})
    assert "'weights': " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["install", "test-install", "test"])
def test_ci_finds_its_commands(name):
    lines = README.splitlines()
    at = lines.index(f"<!-- ci: {name} -->")
    assert lines[at + 1] == "```sh"
    assert lines[at + 3] == "```"
