"""What a command does not need is not imported: torch takes seconds, and so do the libraries of a search together."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import nas
from nas import hw_profiles, tasks
from nas.hw_profiles import cost
from nas.search.algorithms import algorithms, load_algorithm
from nas.tasks import registry

LIBRARIES = {"torch", "sklearn", "pandas", "scipy.stats", "optuna", "plotly", "pymoo", "onnx", "onnxruntime", "ray"}
WORDS = [
    ("search --target jetson-orion", "unknown device 'jetson-orion'"),
    ("search --algorithm gided", "unknown algorithm 'gided'"),
    ("search --task digit", "unknown task 'digit'"),
    ("search --space vit-digit", "unknown space 'vit-digit'"),
    ("search --quantize w8b8", "quantization 'w8b8' is not understood"),
    ("search --budget 5minutes", "--budget '5minutes' is not understood"),
    ("search --max-energy 5kg", "--max-energy '5kg' is not understood"),
    ("search --objective joules", "unknown objective 'joules'"),
    ("train --task digit", "unknown task 'digit'"),
    ("train --quantize w8b8", "quantization 'w8b8' is not understood"),
    ("tune --space vit-digit", "unknown space 'vit-digit'"),
    ("space show vit-digit", "unknown space 'vit-digit'"),
]
DEVICES = "from nas.hw_profiles import catalog; catalog.device_names = lambda: ['hailo-8', 'h100', 'local-cpu']; "


HELP = ["--help", "search --help", "devices --help"]
SCRIPT = """
import contextlib, io, json, sys
from nas.cli import main
results = {}
for command in json.loads(sys.argv.pop()):
    sys.argv, text = ["nas", *command.split()], io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), contextlib.suppress(SystemExit):
        main()
    results[command] = sorted(set(LIBRARIES) & sys.modules.keys()), text.getvalue()
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def started() -> dict[str, tuple[list[str], str]]:
    """By command: the libraries that were imported when it ended, and what it printed. All in one process, in turn."""
    script = f"LIBRARIES = {sorted(LIBRARIES)!r}; {DEVICES}{SCRIPT}"
    commands = json.dumps([*HELP, *(command for command, _ in WORDS), "devices"])
    command = [sys.executable, "-c", script, commands]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(ended.stdout)


@pytest.mark.parametrize("command", HELP)
def test_help_imports_no_library(command: str, started: dict) -> None:
    libraries, printed = started[command]
    assert "Usage: nas" in printed
    assert libraries == []


@pytest.mark.parametrize(("command", "said"), WORDS, ids=[command for command, _ in WORDS])
def test_a_wrong_word_is_said_before_torch_is_imported(command: str, said: str, started: dict) -> None:
    libraries, printed = started[command]
    assert said in printed
    assert libraries == []


def test_devices_are_listed_without_torch(started: dict) -> None:
    libraries, printed = started["devices"]
    assert "hailo-8" in printed
    assert "measured" in printed
    assert libraries == []


@pytest.mark.parametrize("package", [nas, hw_profiles, tasks, cost], ids=lambda p: p.__name__)
def test_every_public_name_is_where_the_stub_says(package) -> None:
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=f"{package.__name__}.* has no attribute 'nothing'"):
        _ = package.nothing


def test_a_subpackage_does_not_hide_a_function_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lazily"
    (package / "seek").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from nas.lazy import attach\n\n__getattr__, __dir__, __all__ = attach(__name__)\n"
    )
    (package / "__init__.pyi").write_text("from .seek.run import seek as seek\n")
    (package / "seek" / "__init__.py").touch()
    (package / "seek" / "units.py").touch()
    (package / "seek" / "run.py").write_text("def seek(): return 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_module("lazily.seek.units")
    assert import_module("lazily").seek() == 5
    assert type(nas) is type(import_module("lazily"))
    assert callable(nas.search)


def test_every_algorithm_is_called_as_its_file() -> None:
    assert [load_algorithm(name).name for name in algorithms()] == algorithms()


def test_the_table_of_tasks_names_every_module_with_a_loader() -> None:
    for module in iter_modules(tasks.__path__):
        import_module(f"{tasks.__name__}.{module.name}")
    assert {name: f"{tasks.__name__}{module}" for name, module in registry.MODULES.items()} == {
        name: loader.__module__ for name, loader in registry._loaders.items()
    }
