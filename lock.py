"""A folder has one writer at a time: others wait, and say for whom."""

import fcntl
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

NAME = ".lock"
PART = re.compile(r"\..+\.(\d+)\.part")
"""The name of what a process writes beside a file or folder before it renames it."""


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold `folder` (made where it does not exist) while the block runs; yields whether another process held it before.

    The operating system releases the lock of a process that ends, however it ends. Where another process holds it, a
    sentence that names it goes to `say`, and this one waits. What it made is removed if it is still empty in the end.
    What processes that no longer exist have half written is removed first.
    """
    made: list[Path] = []
    path = folder / NAME
    handle, waited = _acquired(path, made, say)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(_myself()).encode())
        _remove_parts(folder)
        yield waited
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it takes a new file
        os.close(handle)
        with suppress(OSError):
            for each in made:
                each.rmdir()


def _acquired(path: Path, made: list[Path], say: Callable[[str], None]) -> tuple[int, bool]:
    """The locked file, and whether another process held it; folders that had to be made are added to `made`."""
    waited = False
    while True:
        made += [each for each in path.parents if not each.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waited:
                say(f"{path.parent} is in use by {_holder(path)}; waiting until it has finished")
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, path):
            if waited and path.parent not in made:
                made.insert(0, path.parent)  # its holder may have made it, and left it to this process
            return handle, waited
        os.close(handle)  # its holder has removed the file meanwhile


def _remove_parts(folder: Path) -> None:
    for path in list(folder.rglob(".*.part")):
        match = PART.fullmatch(path.name)
        if match and not _runs(int(match[1])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # a process of another user
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _myself() -> dict[str, Any]:
    since = datetime.now().isoformat(" ", "seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": " ".join(sys.argv)[:200]}


def _holder(path: Path) -> str:
    """In words; the holder may be about to write who it is."""
    try:
        content = json.loads(path.read_text())
        return f"process {content['pid']} on {content['host']} since {content['since']} ({content['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
