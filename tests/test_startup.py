"""What a command does not need is not imported: torch takes seconds, and so do the libraries of a search together."""

import subprocess
import sys
from importlib import import_module
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


def started(command: str, setup: str = "") -> tuple[set[str], str]:
    """The libraries that `nas COMMAND` imports in a process of its own, and what it prints."""
    script = f"""
import atexit, sys
sys.argv = {["nas", *command.split()]!r}
atexit.register(lambda: print("imported", *{LIBRARIES!r} & sys.modules.keys(), file=sys.__stderr__))
{setup}
from nas.cli import main; main()"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    printed, _, last = (ended.stdout + ended.stderr).rstrip("\n").rpartition("\n")
    return set(last.split()) - {"imported"}, printed


@pytest.mark.parametrize("command", ["--help", "search --help", "devices --help"])
def test_help_imports_no_library(command: str) -> None:
    libraries, printed = started(command)
    assert "Usage: nas" in printed
    assert libraries == set()


def test_devices_are_listed_without_torch() -> None:
    libraries, printed = started("devices", DEVICES)
    assert "hailo-8" in printed
    assert "measured" in printed
    assert libraries == set()


@pytest.mark.parametrize(("command", "said"), WORDS, ids=[command for command, _ in WORDS])
def test_a_wrong_word_is_said_before_torch_is_imported(command: str, said: str) -> None:
    libraries, printed = started(command)
    assert said in printed
    assert libraries == set()


@pytest.mark.parametrize("package", [nas, hw_profiles, tasks, cost], ids=lambda p: p.__name__)
def test_every_public_name_is_where_the_stub_says(package) -> None:
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=f"{package.__name__}.* has no attribute 'nothing'"):
        _ = package.nothing


def test_a_subpackage_does_not_hide_a_function_of_its_name() -> None:
    script = "import nas.search.units, nas; nas.search.__name__ == 'search' and callable(nas.search) or exit(1)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_every_algorithm_is_called_as_its_file() -> None:
    assert [load_algorithm(name).name for name in algorithms()] == algorithms()


def test_the_table_of_tasks_names_every_module_with_a_loader() -> None:
    for module in iter_modules(tasks.__path__):
        import_module(f"{tasks.__name__}.{module.name}")
    assert {name: f"{tasks.__name__}{module}" for name, module in registry.MODULES.items()} == {
        name: loader.__module__ for name, loader in registry._loaders.items()
    }
