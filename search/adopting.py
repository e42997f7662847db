"""`nas adopt`: a run whose supernet is a trained model."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..files import cache_folder
from ..lock import locked
from ..search_space.inputs import call
from ..supernet.adopt.adopt import adopt
from ..supernet.adopt.importance import sort_by_importance
from ..supernet.adopt.ladder import ladder
from ..supernet.adopt.source import Source, load_model, load_tokenizer
from ..supernet.recipe import ADOPTED, Recipe
from ..tasks import Task, load_task
from .origin import Progress, description_of, silent
from .run_folder import DESCRIPTION, Run, open_run
from .start import write_start

LOG = logging.getLogger("nas.run")
TOKENIZER, TEACHER = "tokenizer", "teacher"
"""Options of tasks that are the model's own where they are not stated; the first is a folder in the run, too."""
SCORED = 4
"""Samples that single replacements are scored on: of SmolLM2 there are 298, and each takes seconds."""
FRACTIONS = tuple(round(1 - 0.05 * i, 2) for i in range(1, 16))
"""Of the parameters without embeddings: with few of them left, a net still takes the time of its vocabulary."""
OWN = {"text": TOKENIZER, "hf": TOKENIZER, "embeddings": TEACHER}


def adopted_run(
    folder: Path,
    source: Source,
    task: str | None = None,
    *,
    elastic: Mapping[str, Any] = MappingProxyType({}),
    scored: bool = True,
    progress: Progress = silent,
) -> Run:
    """Make a run of a trained model; the caller holds the folder's lock.

    task: None: `text` for a model that generates it, `embeddings` for another that reads tokens.
    elastic: as of `nas.adopt`. scored: sort heads and channels by importance, and have searches begin with the nets of
    `nas.ladder`; what was measured for that is kept in the folder, and the same call goes on from it.
    Errors, before anything is written: a folder that holds a run; a model that cannot be opened, belongs to no family,
    or does not take the task's inputs.
    """
    check_new(folder)
    progress(f"Opening {source.gguf or source.place}", 0, 0, None)
    model = load_model(source)
    task = task or _default_task(model)
    with TemporaryDirectory() as beside:
        name = _with_own(task, source, Path(beside))
        _check_takes(model, load_task(name), name)
        progress("Deriving the space of its nets", 0, 0, None)
        supernet = adopt(model, **elastic)
    name = _with_own(task, source, folder / TOKENIZER)
    loaded = load_task(name)
    if scored:
        sort_by_importance(supernet, loaded, folder=folder, progress=progress)
        rungs = ladder(supernet, loaded, samples=SCORED, fractions=FRACTIONS, folder=folder, progress=progress)
        write_start(folder, [rung.architecture for rung in rungs])
    run = Run(
        folder=folder,
        task_name=name,
        description=description_of(supernet.space, loaded),
        recipe=Recipe(**ADOPTED),
        given_task=loaded,
        given_space=supernet.space,
    )
    run.keep(supernet)
    return run


def opened_run(folder: Path | None, source: Source, task: str | None, progress: Progress) -> Path:
    """The folder of a run of the model, which is made if it is not there. folder: None: one in the cache.

    Errors: those of `adopted_run`; a folder with the run of another space.
    """
    key = hashlib.sha256(repr((source, task)).encode()).hexdigest()[:8]
    folder = folder or cache_folder() / "runs" / f"{Path(source.gguf or source.place).stem}-{key}"
    if not (folder / DESCRIPTION).exists():
        with locked(folder, LOG.warning):
            adopted_run(folder, source, task, progress=progress)
    elif "adopted" not in open_run(folder).description:
        raise UserError(f"{folder} is a run of another space than that of the model; name another --run")
    return folder


def check_new(folder: Path) -> None:
    """Error: the folder holds a run."""
    if (folder / DESCRIPTION).exists():
        raise UserError(f"{folder} holds a run already; search it with `nas search --run {folder}`, or name another")


def _default_task(model: Any) -> str:
    if model.can_generate():
        return "text"
    if model.main_input_name == "input_ids":
        return "embeddings"
    raise UserError(
        f"{type(model).__name__} takes {model.main_input_name}; name a task for it: --task image-folder:PATH"
    )


def _with_own(task: str, source: Source, folder: Path) -> str:
    """The name of the task with what is the model's own: its tokenizer, written to the folder, or itself as teacher."""
    option = OWN.get(task.partition(":")[0])
    if option is None or f"{option}=" in task:
        return task
    if option == TOKENIZER:
        load_tokenizer(source).save_pretrained(folder)
    mark = "&" if "?" in task else "?" if ":" in task else ":?"
    return f"{task}{mark}{option}={folder.resolve() if option == TOKENIZER else source.place}"


def _check_takes(model: nn.Module, task: Task, name: str) -> None:
    """Error: the model cannot be called with the task's inputs, or does not return its predictions."""
    try:
        with torch.no_grad():
            task.loss_of(task.prediction(call(model, task.example)), task.batch(0, 1, seed=0, augment=False)[1])
    except Exception as error:
        raise UserError(f"{type(model).__name__} does not fit task {name!r}: {error}; name another --task") from error
