"""The `nas` command: it reads what users write, calls the rooms, and prints. Nothing is decided here.

One file for each group of commands, imported in the order in which `nas --help` lists them.
"""

# isort: off
from . import search, train, tune, profile, devices, space  # noqa: F401  (each registers its commands)

# isort: on
from rich.console import Console

from ..errors import Infeasible, UserError
from .common import app

INTERRUPTED = 130


def main() -> None:
    """Entry point: errors become one sentence and an exit code (1 disk, 2 input, 3 infeasible, 130 interrupted)."""
    try:
        app()
    except UserError as error:
        _fail(str(error), 2)
    except Infeasible as error:
        _fail(str(error), 3)
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _fail(f"a file cannot be read or written: {named}", 1)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:  # Typer makes an exit code of Ctrl-C
            raise
        _fail("interrupted; the same command goes on where this one stopped", INTERRUPTED)


def _fail(message: str, code: int) -> None:
    Console(stderr=True).print(f"[red]nas:[/] {message}", highlight=False, soft_wrap=True)
    raise SystemExit(code)
