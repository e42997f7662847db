"""Tasks by name. A new task is one file in this folder: a loader under `@register`; nothing else has to know of it."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from ..errors import unknown
from .python_task import is_file, python_task
from .task import Task

Loader = Callable[[str | None], Task]
"""Makes the task from what follows the colon of its name (None without a colon)."""

_loaders: dict[str, Loader] = {}


def register(name: str) -> Callable[[Loader], Loader]:
    """Offer the decorated loader as task `name`."""

    def add(loader: Loader) -> Loader:
        if _loaders.setdefault(name, loader) is not loader:
            raise ValueError(f"task {name!r} is registered twice: {_loaders[name].__module__}, {loader.__module__}")
        return loader

    return add


def task_names() -> list[str]:
    """Names of all tasks, in order, without their arguments."""
    for module in iter_modules([str(Path(__file__).parent)]):
        import_module(f".{module.name}", __package__)
    return sorted(_loaders)


def load_task(name: str) -> Task:
    """The task `name`, or `name:ARGUMENT`: `digits`, `fashion-mnist:FOLDER`, `image-folder:PATH?size=64&channels=3`.

    `FILE.py:FUNCTION` is what the function of your own file returns. Errors: no such task; a file that fails.
    """
    if is_file(name):
        return python_task(name)
    base, colon, argument = name.partition(":")
    names = task_names()
    if base not in names:
        raise unknown("task", base, [*names, "FILE.py:FUNCTION"])
    return _loaders[base](argument if colon else None)
