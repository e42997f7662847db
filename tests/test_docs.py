"""Every code block of the README and of the docs runs, or is parsed by what it is written for.

The Python blocks of a page run in order, in one namespace and one empty folder; a block with a title is also written to
that file. A page that takes more than a few seconds says `<!-- test: slow -->`. Each `nas` line of a shell block is
parsed by the command's own options, and each `python scripts/...` line must name a script and options that it has; a
block below `<!-- test: run -->` runs as well. YAML must be sound, and a device file valid.
"""

import doctest
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer
from nas_command import nas_command

import nas
from nas.cli.common import app
from nas.documents import parse_yaml
from nas.search_space.operators import base

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r'^(?:<!-- test: (?P<mark>\w+) -->\n)?```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$',
    re.M | re.S,
)
ELSEWHERE = {"pip", "pytest", "pre-commit", ".", "mkdocs"}
"""Programs of shell blocks that this test does not look into."""


NAMES = """
import warnings
import nas, optuna, torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.block = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)) if hidden else None
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = nn.functional.gelu(self.stem(x.flatten(1)))
        return self.head(x + self.block(x) if self.block else x)


def function(trial):
    width = trial.suggest_int("width", 16, 64, step=16)
    deep = trial.suggest_categorical("deep", [False, True])
    return Net(width, trial.suggest_categorical("hidden", [32, 64, 128]) if deep else 0)

space, task = nas.SearchSpace(function), nas.load_task("digits")
x, xv, y, yv = torch.randn(40, 8), torch.randn(20, 8), torch.randn(40, 1), torch.randn(20, 1)
supernet, device = nas.Supernet(space), nas.load_device("raspberry-pi-5")
net = supernet.extract(space.smallest)
cost = lambda architecture: nas.trace_cost(space.skeleton(architecture), task.example)
"""


class Block(NamedTuple):
    """mark: `run` or nothing. title: the file that the page says it is."""

    mark: str | None
    language: str
    title: str | None
    code: str


def blocks(page: Path) -> list[Block]:
    return [Block(**match.groupdict()) for match in FENCE.finditer(page.read_text())]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each line; a comment, a prefix `NAME=value` and what follows a pipe or `>` are left out."""
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        words = words[: next((i for i, w in enumerate(words) if w in ("|", ">", "&&")), len(words))]
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            yield words


def parse(arguments: list[str]) -> None:
    """Parse the arguments of `nas` as the command does, without running it. Error: the command would refuse them."""
    command = typer.main.get_command(app)
    context = command.make_context("nas", arguments)
    while rest := [*context._protected_args, *context.args]:
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def check_script(words: list[str]) -> None:
    source = (ROOT / words[0]).read_text()
    options = [w for w in words if w.startswith("--")]
    assert [o for o in options if f'"{o}"' not in source and f'"{o.removeprefix("--")}"' not in source] == [], words


def check_shell(block: Block) -> None:
    for program, *arguments in commands(block):
        if program == "nas":
            if not {"--help", "-h"} & set(arguments):
                parse(arguments)
            if block.mark == "run":
                result = nas_command(*arguments)
                assert result.code == 0, result.err
        elif program == "python" and arguments[0].startswith("scripts/"):
            check_script(arguments)
        else:
            assert program in ELSEWHERE or arguments[:2] == ["-m", "venv"], f"{program}: not known to this test"


def run(page: Path) -> dict[str, object]:
    """Run the blocks of a page in the current folder; what its Python defined."""
    scope: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        match block.language:
            case "python":
                if block.title:
                    Path(block.title).write_text(block.code)
                exec(compile(block.code, f"{page.name}: {block.title or 'block'}", "exec"), scope)
            case "sh":
                check_shell(block)
            case "yaml":
                check_yaml(block)
            case _:
                assert block.language == "text", f"{page.name}: a block without a language is not tested"
    return scope


def check_yaml(block: Block) -> None:
    content = parse_yaml(block.code, "a block")
    if "runtime" in content:
        Path(f"{content['name']}.yaml").write_text(block.code)
        nas.load_device(f"{content['name']}.yaml")
    else:
        nas.TransformerSpace(**content)


@pytest.fixture(autouse=True)
def _unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page registers is gone after it."""
    base.discover()
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))


def _marked(page: Path) -> object:
    slow = "<!-- test: slow -->" in page.read_text()
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize("page", [_marked(page) for page in PAGES if page.name != "README.md"])
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run(page)


def test_indented_blocks_are_not_tested_so_there_are_none() -> None:
    for page in PAGES:
        text = FENCE.sub("", page.read_text())
        assert not re.search(r"^\n {4,}(nas|python|pip|import) ", text, re.M), page.name


def test_an_option_that_is_not_there_is_seen() -> None:
    with pytest.raises(Exception, match="--budgets"):
        check_shell(Block(None, "sh", None, "nas search --budgets 5ms"))
    with pytest.raises(AssertionError):
        check_shell(Block(None, "sh", None, "python scripts/bench_search.py --no-such-option"))


def test_every_block_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope = run(ROOT / "README.md")
    answer: Any = scope["answer"]
    assert len(answer.choice.trials) == scope["space"].size == 24
    assert (answer.front["params"] <= 10_000).all()
    assert nas.evaluate(scope["model"], scope["task"]) == answer.quality
    files = {"model.json", "model.safetensors", "model.onnx", "architecture.json", "README.md", "front.csv"}
    assert {p.name for p in (tmp_path / "model").iterdir()} == files


def test_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_api_page_has_every_public_name_once() -> None:
    named = re.findall(r"^::: nas\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(named) == sorted(nas.__all__)


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    """What the examples of docstrings may use."""
    scope: dict[str, object] = {}
    exec(NAMES, scope)
    return scope


@pytest.mark.parametrize("name", [name for name in nas.__all__ if not isinstance(getattr(nas, name), ModuleType)])
def test_every_public_name_has_an_example_that_runs(
    name: str, names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(nas, name), name, globs=dict(names))
    assert example.examples, f"nas.{name} has no example in its docstring"
    complaints: list[str] = []
    with warnings.catch_warnings():
        doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(example, out=complaints.append)
    assert complaints == []


@pytest.mark.parametrize("name", ["install", "test-install", "test"])
def test_ci_finds_its_commands(name: str) -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    at = lines.index(f"<!-- ci: {name} -->")
    assert lines[at + 1] == "```sh"
    assert lines[at + 3] == "```"
