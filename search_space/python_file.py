"""Spaces and tasks in Python files: whose code runs, and what can be wrong with it.

A file runs where the user named it (`--space FILE.py:FUNCTION`) or allowed it (`--trust`, `trust=True`). Both
leave a record in the user's cache, by path and content, so that a run goes on working and a stranger's folder does not.
"""

import hashlib
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any

from ..errors import UserError, unknown
from ..files import cache_folder, write_atomic
from .space import SearchSpace, SpaceFunction

USER_MODULE = "nas_user_"
"""How the module of a space file is called, before the file's own name."""
_approved: dict[Path, dict[str, str]] = {}
"""By this process: the record in the user's cache, and what it says."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a space file. Error: it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"the space file {path} cannot be read: {reason}") from None


def approve(path: Path, digest: str) -> None:
    """The user wants the code of this file, as it is now, to be run: by this process; `keep_approvals` is for later."""
    _approved[_record(path, digest)] = {"file": str(path), "sha256": digest}


def keep_approvals() -> None:
    """Record in the user's cache what has been approved: a command that fails before leaves nothing behind."""
    for record, content in _approved.items():
        if not record.exists():
            write_atomic(record, json.dumps(content))


def check_approved(path: Path, digest: str) -> None:
    """Error: the user has never named this file, as it is now."""
    record = _record(path, digest)
    if record not in _approved and not record.exists():
        raise UserError(
            f"this would run the code of {path}, which you have not named before; if you trust it, say so: --trust or "
            "--space FILE.py:FUNCTION, in Python trust=True or space=; nas.load(..., format='onnx') needs no code"
        )


def _record(path: Path, digest: str) -> Path:
    return cache_folder() / "trusted" / f"{hashlib.sha256(os.fsencode(path) + digest.encode()).hexdigest()}.json"


def python_space(path: Path, name: str, interface: Mapping[str, Any]) -> SearchSpace | SpaceFunction:
    """What `name` is in the file: a space or a function, which gets what it asks for of `interface`.

    interface: `input_shape`, `classes` and, where inputs are tokens, `vocabulary`.

    Errors: the file fails when it is imported; there is no such function; it cannot be called with a trial.
    """
    space = object_in(path, name)
    return space if isinstance(space, SearchSpace) else _with_fit(path, name, space, interface)


def object_in(path: Path, name: str) -> Any:
    """What `name` is in the file, which is imported. Errors: it fails; there is no such function or object."""
    module = _import(path)
    value = vars(module).get(name)
    if value is None:
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise unknown(f"function in {path.name}", name, functions)
    return value


def result_of(path: Path, name: str, function: Any, right: str) -> Any:
    """What a function of the file returns. Error: it cannot be called without arguments, or raises."""
    if not inspect.isfunction(function):
        raise UserError(f"{path}: {name} is a {type(function).__name__}; {right}")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise UserError(f"{_line(path, function)}: {name} cannot be called: {error}; {right}") from None
    try:
        return function()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{_place(path, error)} fails in {name}(): {_reason(error)}") from error


def _with_fit(path: Path, name: str, function: Callable[..., Any], interface: Mapping[str, Any]) -> SpaceFunction:
    offered = ", ".join(interface)
    right = f"a space function takes a trial (and may take {offered}) and returns a torch.nn.Module"
    if not callable(function):
        raise UserError(f"{path}: {name} is a {type(function).__name__}; {right}")
    if inspect.isclass(function):
        raise UserError(f"{_line(path, function)}: {name} is a class; {right}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise UserError(f"{path}: {name} has no signature; {right}") from None
    fit = {key: value for key, value in interface.items() if key in signature.parameters}
    try:
        signature.bind(None, **fit)
    except TypeError as error:
        raise UserError(f"{_line(path, function)}: {name}{signature} cannot be called: {error}; {right}") from None
    return partial(function, **fit) if fit else function


def _line(path: Path, thing: Any) -> str:
    try:
        return f"{path}, line {inspect.getsourcelines(inspect.unwrap(thing))[1]}"
    except (OSError, TypeError):
        return str(path)


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{USER_MODULE}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(path.parent))  # as `python FILE` does: the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{_place(path, error)} fails when it is imported: {_reason(error)}") from error
    finally:
        if str(path.parent) in sys.path:
            sys.path.remove(str(path.parent))
    return module


def _place(path: Path, error: BaseException) -> str:
    """The file, and the last of its lines that ran."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f"{path}, line {lines[-1]}," if lines else str(path)


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code!r}); a space file defines functions and returns"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {shorten(message, 200)}"
