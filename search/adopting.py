"""`nas adopt`: a run whose supernet is a trained model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..search_space.inputs import call
from ..supernet.adopt.adopt import adopt
from ..supernet.adopt.source import Source, load_model, load_tokenizer
from ..supernet.recipe import Recipe
from ..tasks import Task, load_task
from .origin import description_of
from .run_folder import Run

TOKENIZER = "tokenizer"
"""The folder in a run that holds the tokenizer of its model."""
OF_TOKENS = ("text", "embeddings", "hf")
"""Tasks that take a tokenizer."""


def adopted_run(
    folder: Path, source: Source, task: str | None, elastic: Mapping[str, Any], say: Callable[[str], None]
) -> Run:
    """Make a run of a trained model; the caller holds the folder's lock.

    task: None: `text`, with the model's own tokenizer. elastic: as of `nas.adopt`. say: is told what is done.
    Errors, before anything is written: a folder that holds a run; a model that cannot be opened, belongs to no family,
    or does not take the task's inputs.
    """
    check_new(folder)
    say(f"Opening {source.gguf or source.place}")
    model = load_model(source)
    with TemporaryDirectory() as beside:
        tokenizer = load_tokenizer(source) if takes_tokenizer(task) else None
        name = _saved(tokenizer, task, Path(beside))
        _check_takes(model, load_task(name), name)
        say("Deriving the space of its nets")
        supernet = adopt(model, **elastic)
    name = _saved(tokenizer, task, folder / TOKENIZER)
    loaded = load_task(name)
    run = Run(
        folder=folder,
        task_name=name,
        description=description_of(supernet.space, loaded),
        recipe=Recipe(),
        given_task=loaded,
        given_space=supernet.space,
    )
    run.keep(supernet)
    return run


def check_new(folder: Path) -> None:
    """Error: the folder holds a run."""
    if (folder / "run.json").exists():
        raise UserError(f"{folder} holds a run already; search it with `nas search --run {folder}`, or name another")


def takes_tokenizer(task: str | None) -> bool:
    """Whether the tokens of a task are those of a tokenizer that it does not name."""
    return task is None or (task.partition(":")[0] in OF_TOKENS and f"{TOKENIZER}=" not in task)


def _saved(tokenizer: Any, task: str | None, folder: Path) -> str:
    """The name of the task with the tokenizer, which is written to the folder; None: the task needs none."""
    name = task or "text"
    if tokenizer is None:
        return name
    tokenizer.save_pretrained(folder)
    mark = "&" if "?" in name else "?" if ":" in name else ":?"
    return f"{name}{mark}{TOKENIZER}={folder.resolve()}"


def _check_takes(model: nn.Module, task: Task, name: str) -> None:
    """Error: the model cannot be called with the task's inputs, or does not return its predictions."""
    try:
        with torch.no_grad():
            task.loss_of(task.prediction(call(model, task.example)), task.batch(0, 1, seed=0, augment=False)[1])
    except Exception as error:
        raise UserError(f"{type(model).__name__} does not fit task {name!r}: {error}; name another --task") from error
