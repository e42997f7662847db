"""Calls the `nas` command: in this process (quick), or as a process of its own that can be killed."""

import contextlib
import io
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from nas import cli
from nas.cli.common import console

torch.set_num_threads(1)  # the nets are tiny; two threads that wait for one busy core take a hundred times longer

STEPS, EVALUATIONS = 30, 24
TINY_SPACE = """\
summary: A space that trains in a second.
patch: 4
width: [16, 32]
layers: 2
least_layers: 1
kv_heads: [1, 2]
mixer: [softmax, pool]
ffn_ratio: [0.5, 1.0]
"""


@dataclass(frozen=True)
class Result:
    """What is left of a command: exit code and text, without escape sequences."""

    code: int
    out: str
    err: str


def nas_command(*arguments: object, width: int = 200) -> Result:
    """Run `nas ARGUMENTS...` on a terminal of that width."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["nas", *map(str, arguments)]),
        mock.patch.object(console, "_width", width),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, _plain(out.getvalue()), _plain(err.getvalue()))


def nas_process(*arguments: object) -> subprocess.Popen[str]:
    """Start `nas ARGUMENTS...` as a process with one thread."""
    # A shell may have switched Ctrl-C off for what it runs in the background; children inherit that.
    start = "from signal import *; signal(SIGINT, default_int_handler); from nas.cli import main; main()"
    command = [sys.executable, "-c", start, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def tiny_space(folder: Path) -> Path:
    """A YAML file of a space that trains in a second, in `folder`."""
    path = folder / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path


def question(
    run: Path, space: Path, *arguments: object, steps: int = STEPS, evaluations: int = EVALUATIONS
) -> list[object]:
    """The arguments of a search that takes seconds."""
    base = ("search", "--target", "jetson-orin", "--run", run, "--space", space)
    return [*base, "--steps", steps, "--evaluations", evaluations, *arguments]


def ask(run: Path, space: Path, *arguments: object, **settings: int) -> Result:
    """Run that search in this process."""
    return nas_command(*question(run, space, *arguments, **settings))


def trials(run: Path) -> int:
    """How many architectures the searches of a run have evaluated so far."""
    try:
        with sqlite3.connect(f"file:{run / 'study.db'}?mode=ro", uri=True) as database:
            return int(database.execute("select count(*) from trials").fetchone()[0])
    except sqlite3.OperationalError:  # no file, no table, or being written
        return 0
