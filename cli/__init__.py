"""The `nas` command: it reads what users write, calls the rooms, and prints. Nothing is decided here.

One file for each group of commands, imported in the order in which `nas --help` lists them.
"""

# isort: off
from . import search, adopt, train, tune, profile, devices, space  # noqa: F401  (each registers its commands)

# isort: on
import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from ..errors import Infeasible, UserError
from .common import app
from .plain import degrade, one_line

INTERRUPTED = 130
NO_READER = 141
"""As of a process that the signal SIGPIPE ends."""
UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # in which module depends on the version of Typer
OBJECTS = 10_000
"""New objects after which the garbage collector looks for cycles. By default 700: a tenth of a search, for nothing."""
OUT_OF_MEMORY = "can't allocate memory", "out of memory", "not enough memory"


def main() -> None:
    """Entry point: errors become one sentence and an exit code.

    1: disk or memory; 2: input; 3: infeasible; 130: interrupted. All else is a fault of this package, and keeps its
    traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        degrade(stream)
    gc.set_threshold(OBJECTS)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _without_reader()
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        _explain(error)
    else:
        if code == INTERRUPTED:  # Typer makes an exit code of Ctrl-C
            _explain(KeyboardInterrupt())
        raise SystemExit(code or 0)


def _explain(error: BaseException) -> NoReturn:
    """Say in one sentence what is wrong, if a user can fix it."""
    match error:
        case UserError():
            _fail(str(error), 2)
        case Infeasible():
            _fail(str(error), 3)
        case KeyboardInterrupt() | typer.Abort():
            _fail("interrupted; the same command goes on where this one stopped", INTERRUPTED)
        case SystemExit():
            _ended(error)
        case OSError():
            named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            _fail(f"a file cannot be read or written: {named}", 1)
        case RecursionError():
            _fail("what was given is nested too deeply, or a function of a space file calls itself without end", 2)
    if isinstance(error, UsageError):
        _misused(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _is_memory(str(error))):
        reason = f" ({error})" if str(error) else ""
        _fail(f"the memory of this machine does not suffice; take smaller nets or batches{reason}", 1)
    raise error


def _is_memory(message: str) -> bool:
    return any(words in message.lower() for words in OUT_OF_MEMORY)


def _misused(error: Exception) -> NoReturn:
    """An option or command that does not exist, or a value that it does not take."""
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    if not message:  # a group without a command: its help was printed
        raise SystemExit(2)
    _fail(f"{message.rstrip('.')}; see `{context.command_path if context else 'nas'} --help`", 2)


def _ended(error: SystemExit) -> NoReturn:
    """An end that this command did not ask for: it is no success, so that what depends on it does not go on."""
    if isinstance(error.__context__, BrokenPipeError):
        _without_reader()
    if any(name.endswith("_COMPLETE") for name in os.environ):  # a shell asks for completions
        raise error
    _fail(f"code of the space or task called sys.exit({error.code!r}); let it return, or raise an error", 2)


def _without_reader() -> NoReturn:
    """Whoever read the output has gone (`nas devices | head`): there is nobody to tell."""
    with suppress(OSError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(NO_READER)


def _fail(message: str, code: int) -> NoReturn:
    text = Text.assemble(("nas:", "red"), " ", one_line(message))
    Console(stderr=True, markup=False, emoji=False).print(text, soft_wrap=True, highlight=False)
    raise SystemExit(code)
