"""Runtimes: what executes a net on this machine. One a file; the file's name is the runtime's.

A new runtime is a file with the three functions of `Runtime`; the contract test finds it by itself.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, cast

from ...errors import UserError, unknown

if TYPE_CHECKING:
    from .base import Runtime


def runtime_names() -> list[str]:
    """Names of all runtimes, installed or not."""
    return sorted(m.name for m in iter_modules([str(Path(__file__).parent)]) if m.name != "base")


def load_runtime(name: str) -> "Runtime":
    """The runtime of that name. Errors: there is none; it is not installed here."""
    if name not in runtime_names():
        raise unknown("runtime", name, runtime_names())
    runtime = cast("Runtime", import_module(f".{name}", __package__))
    result = runtime.available()
    if not result:
        raise UserError(result.why_not)
    return runtime
