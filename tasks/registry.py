"""Tasks by name. A new task is one file in this folder, a loader under `@register`, and its line in `MODULES`."""

import re
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import UserError, unknown
from ..plugins import load_plugins

if TYPE_CHECKING:
    from .task import Task

Loader = Callable[[str | None], "Task"]
"""Makes the task from what follows the colon of its name (None without a colon)."""

MODULES = {
    "diabetes": ".diabetes",
    "digits": ".digits",
    "embeddings": ".embeddings",
    "fashion-mnist": ".fashion",
    "hf": ".hf",
    "image-folder": ".folder",
    "shapes": ".shapes",
    "tags": ".tags",
    "text": ".text",
}
"""Where the loaders of this package are: names are checked without importing torch, which takes seconds."""
FILE = re.compile(r"(?P<file>.*\.py):(?P<name>\w+)(?:#(?P<sha256>[0-9a-f]{64}))?", re.DOTALL)
_loaders: dict[str, Loader] = {}


def register(name: str) -> Callable[[Loader], Loader]:
    """Offer the decorated loader as task `name`."""

    def add(loader: Loader) -> Loader:
        old = _loaders.get(name, loader)
        if (old.__module__, old.__qualname__) != (loader.__module__, loader.__qualname__):
            raise UserError(f"task {name!r} is registered twice: {old.__module__}, {loader.__module__}; rename one")
        _loaders[name] = loader
        return loader

    return add


def task_names() -> list[str]:
    """Names of all tasks, those of plug-ins too, in order, without their arguments.

    >>> "digits" in nas.task_names()
    True
    """
    load_plugins()
    return sorted({*MODULES, *_loaders})


def is_file(text: str) -> bool:
    """Whether a name is one of a Python file: `FILE.py:FUNCTION`."""
    return FILE.fullmatch(text) is not None


def check_task(name: str) -> None:
    """Error: no such task, with the valid names."""
    base = name.partition(":")[0]
    if base not in task_names() and not is_file(name):
        raise unknown("task", base, [*task_names(), "FILE.py:FUNCTION"])


def load_task(name: str) -> "Task":
    """The task `name`, or `name:ARGUMENT`, as in `fashion-mnist:FOLDER`, `image-folder:PATH?size=64&channels=3`.

    `FILE.py:FUNCTION` is what the function of your own file returns. Errors: no such task; a file that fails.

    >>> nas.load_task("digits").classes
    10
    """
    check_task(name)
    if is_file(name):
        from .python_task import python_task

        return python_task(name)
    base, colon, argument = name.partition(":")
    if base in MODULES:
        import_module(MODULES[base], __package__)
    return _loaders[base](argument if colon else None)
