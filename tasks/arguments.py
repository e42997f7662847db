"""What follows the name of a task of text: `PATH,PATH?window=256&tokenizer=bpe:4096`."""

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from ..errors import UserError, unknown

Paths = str | PathLike[str] | Sequence[str | PathLike[str]] | None


def parsed(task: str, argument: str | None, options: Mapping[str, type]) -> tuple[str, dict[str, Any]]:
    """The part before the question mark, and the options after it, as they are written (nothing is unquoted).

    options: their names, each with `int` or `str`. Errors: an option that the task does not have, or without a value.
    """
    head, _, query = (argument or "").partition("?")
    given: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name not in options:
            raise unknown(f"option of task '{task}'", name, options)
        if not value or (options[name] is int and not value.isdecimal()):
            kind = "a whole number" if options[name] is int else "a value"
            raise UserError(f"{task}: {name} must be {kind}, as in '{name}=64', got {value!r}")
        given[name] = options[name](value)
    return head, given


def paths_in(paths: Paths) -> list[Path] | None:
    """The files and folders that are named: several in a sequence, or in a string with commas between.

    A string that is a path as it stands is that path, whatever commas it has. None: none is named.
    """
    if isinstance(paths, str | PathLike):
        text = fspath(paths)
        whole = not text or Path(text).expanduser().exists()
        paths = [text] if whole else [part for part in text.split(",") if part]
    named = [Path(path).expanduser() for path in paths or [] if fspath(path)]
    return named or None
