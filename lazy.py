"""Public names of a package that are imported when they are first used: torch takes seconds, and `nas --help` none.

The stub beside a package's `__init__.py` (`__init__.pyi`) says from which module each name comes. Type checkers and
editors read it, and so does `attach`: there is no second list (SPEC 1 of Scientific Python; PEP 562).
"""

import ast
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, as its stub says."""
    module = sys.modules[package]
    sources = _sources(Path(str(module.__file__)).with_suffix(".pyi"))

    def getattribute(name: str) -> Any:
        if name not in sources:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with _uncollected():
            value = import_module(sources[name], package)
        value = value if sources[name] == f".{name}" else getattr(value, name)
        vars(module)[name] = value
        return value

    module.__class__ = _Package  # in which a subpackage does not hide a public name: `nas.search` is a function
    return getattribute, lambda: sorted({*vars(module), *sources}), sorted(sources)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: an import makes objects that stay, and it would walk through them a hundred times.

    That is a tenth of the time that torch takes to be imported.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in self.__all__):
            super().__setattr__(name, value)


def _sources(stub: Path) -> dict[str, str]:
    """Name -> relative module, of `from .module import name as name` or `from . import module as module` in a stub."""
    nodes = ast.parse(stub.read_text(encoding="utf-8")).body
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    return {alias.name: f".{node.module or alias.name}" for node in imports for alias in node.names}
