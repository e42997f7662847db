"""The house stays in order: imports only point down, every package is listed, files stay small."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["search_space", "tasks", "hw_profiles", "supernet", "predictors", "search", "cli", "testing"]
SOURCES = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports from, relatively."""
    depth = len(path.relative_to(ROOT).parts) - 1
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1 and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "nas"}
        elif (
            isinstance(node, ast.ImportFrom) and node.module and node.level == 0 and node.module.split(".")[0] == "nas"
        ):
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_point_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    below = {*ROOMS[: ROOMS.index(room)], "documents", "errors", "files", "lazy", "lock", "plugins", "pages", "values"}
    assert imported_rooms(path) <= below


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"nas"} | {".".join(["nas", *p.parent.relative_to(ROOT).parts]) for p in SOURCES if p.name == "__init__.py"}
    assert listed == found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_nothing_unpickles() -> None:
    """No pickle is loaded: neither by its module nor by a loader that uses it."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}, path
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"torch.load", "yaml.load", "yaml.unsafe_load", "np.load"}, path
