"""Tasks in Python files: `FILE.py:FUNCTION`, a function without arguments that returns a `Task`, or a task itself.

Whose code runs is decided as for spaces (`search_space.python_file`): naming a file approves it as it is. What a run
keeps is the absolute path, the name and the SHA-256 of the file.
"""

from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from ..search_space.python_file import approve, check_approved, digest_of, keep_approvals, object_in, result_of
from .registry import FILE, is_file
from .task import Task

RIGHT = "a task function takes no arguments and returns a nas.Task, as nas.Task.of makes it"


def recorded(text: str) -> str:
    """What a run keeps of `FILE.py:FUNCTION`, which the user thereby trusts. Error: the file cannot be read."""
    file, name, sha256 = _parts(text)
    if sha256 is not None:
        return text
    digest = digest_of(Path(file))
    approve(Path(file).resolve(), digest)
    return f"{Path(file).resolve()}:{name}#{digest}"


def shown(text: str) -> str:
    """The name of a task for people, without the checksum of its file."""
    return text.rpartition("#")[0] if is_file(text) and "#" in text else text


def trust_task(text: str) -> None:
    """Let the file of a recorded task be run from now on; other tasks need no trust."""
    if is_file(text):
        file, _, sha256 = _parts(text)
        approve(Path(file), sha256 or digest_of(Path(file)))
        keep_approvals()


def python_task(text: str) -> Task:
    """The task of a file. Errors: the file has changed since it was recorded, is not trusted, fails, or has no task."""
    file, name, sha256 = _parts(recorded(text))
    path, digest = Path(file), digest_of(Path(file))
    if digest != sha256:
        raise UserError(f"{path} has changed since the run was made; restore the file, or start another run")
    check_approved(path, digest)
    task = object_in(path, name)
    if not isinstance(task, Task):
        task = result_of(path, name, task, RIGHT)
    if not isinstance(task, Task):
        raise UserError(f"{path}: {name} returns {type(task).__name__}; {RIGHT}")
    return replace(task, name=f"{path.name}:{name}") if task.name == "task" else task


def _parts(text: str) -> tuple[str, str, str | None]:
    match = FILE.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} is not a task of a Python file; write FILE.py:FUNCTION")
    return match["file"], match["name"], match["sha256"]
