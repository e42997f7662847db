"""What all commands share: the app, the console and the options and steps that several of them have."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

console = Console(markup=False, emoji=False, highlight=False)
"""What users and their files say is text, never markup; styles are given beside the text (`say`)."""
app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Neural architecture search for transformers: train one supernet, extract the best net for a device.",
)

RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder. Default: one in ~/.cache/nas.")]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="digits, fashion-mnist[:FOLDER], image-folder:PATH, diabetes, "
        "text[:PATH,...][?tokenizer=bpe:4096&window=256], hf:DATASET, embeddings:PATH?teacher=FOLDER, "
        "tags[:PATH], shapes, FILE.py:FUNCTION.",
    ),
]
SpaceOption = Annotated[str | None, typer.Option("--space", help="PRESET, FILE.yaml or FILE.py:FUNCTION.")]
MOST_BATCH = 2**16
MOST_NETS = 1_000_000
MOST_PROCESSES = 4096
MOST_STEPS = 10**9
MOST_TOKENS = 2**20
"""No sensible number is larger; it is a slip, and would only be noticed when the memory or the day has gone."""
StepsOption = Annotated[
    int | None, typer.Option("--steps", max=MOST_STEPS, help="Optimizer steps of the supernet's training.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Random seed.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Where to train and evaluate: auto (a GPU if there is one), cpu, cuda, mps.")
]
CheckOption = Annotated[
    bool, typer.Option("--check/--no-check", help="Refuse a space whose small nets are no parts of its large ones.")
]
TrustOption = Annotated[bool, typer.Option("--trust", help="Run the Python file that the run folder names.")]


def check_words(task: str | None, *spaces: str | None, device: str = "auto") -> None:
    """Errors: no such task, space or compute device. They come before torch is imported, which takes seconds."""
    from ..search_space.presets import check_space
    from ..supernet.compute import check_compute_device
    from ..tasks.registry import check_task

    check_compute_device(device)
    if task is not None:
        check_task(task)
    for space in spaces:
        if space is not None:
            check_space(space)


def trusting(trust: bool, *folders: Path | None) -> None:
    """With --trust: the code of the space files that these run folders name may be run, from now on."""
    from ..search.run_folder import open_run
    from ..search_space import locate
    from ..tasks.python_task import trust_task

    for folder in folders if trust else ():
        if folder is not None and (folder / "run.json").exists():
            run = open_run(folder)
            locate.trust(run.description)
            trust_task(run.task_name)


def stated(**named: Any) -> dict[str, Any]:
    """The training knobs that the user stated."""
    return {name: value for name, value in named.items() if value is not None}


def say(text: str, label: str = "", style: str = "yellow") -> None:
    """Print a sentence, whole: a path or a command in it can be copied. label: a word before it, in that style."""
    console.print(Text.assemble((f"{label} ", style), text) if label else Text(text), soft_wrap=True)


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Nothing is printed on the console while the block runs, if `quiet`; errors are not printed there."""
    before, console.quiet = console.quiet, console.quiet or quiet
    try:
        yield
    finally:
        console.quiet = before


def remark(sentence: str) -> None:
    """Print a sentence that is no part of the command's output, on the error stream."""
    Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)


class _Printed(logging.Handler):
    """Prints what is logged of runs: warnings on the error stream, all else as a part of the command's output."""

    def emit(self, record: logging.LogRecord) -> None:
        (remark if record.levelno >= logging.WARNING else say)(record.getMessage())


RUNS = logging.getLogger("nas.run")
RUNS.setLevel(logging.INFO)
RUNS.addHandler(_Printed())
