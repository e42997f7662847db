"""Training of a supernet, in this process or in several."""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..lock import locked
from ..search_space.adopted.space import AdoptedSpace
from ..search_space.inputs import arguments
from ..tasks import Task
from .compute import compute_device
from .recipe import Recipe, adopted_recipe, check_length, make_recipe
from .store import Supernet
from .trainer import History, Trainer

if TYPE_CHECKING:
    import torch

CHECKPOINTS = "checkpoints"
Progress = Callable[[int, int, Mapping[str, float]], None]


def train(
    supernet: Supernet,
    task: Task,
    recipe: Recipe | None = None,
    *,
    run: str | Path | None = None,
    progress: Progress | None = None,
    device: "str | torch.device | None" = None,
    workers: int = 1,
    check: bool = True,
    **knobs: Any,
) -> History:
    """Train the shared weights of `supernet` on `task` and leave it in evaluation mode.

    recipe or knobs: see `Recipe` (`nas.train(supernet, task, steps=600, sampling="sandwich")`). The nets of an adopted
        model are trained by `recipe.ADOPTED` where nothing else is stated:
        `nas.train(supernet, task, nets=[architecture], minutes=20)`.
    run: a folder for checkpoints. If it holds an unfinished training of the same recipe, space and task, that one
        goes on and ends with the same weights, bit for bit on a CPU, as if it had not been interrupted. While
        another process writes into that folder, this call warns and waits.
    progress: called after each step with (steps done, steps in all, the step's row).
    device: where to train ("auto", "cpu", "cuda", "mps"); the supernet is moved there and stays. None: where it is.
    workers: processes that share the batches, by Ray Train (`pip install "nas[ray]"`); the loss curve is that of one
        (see `parallel`).
    check: refuse a space whose small nets are no parts of its large ones where a layout rule makes them so
        (`SearchSpace.require_nested`; a few seconds).
    Errors: a run folder of another training; a loss that diverges again after five rollbacks.

    >>> history = nas.train(supernet, task, steps=2, sampling="sandwich")
    """
    check_call(supernet, task)
    check_length(knobs)
    adopted = supernet.is_adopted or isinstance(supernet.space.function, AdoptedSpace)
    chosen = adopted_recipe(recipe, knobs) if adopted else make_recipe(recipe, knobs, task)
    if check:
        supernet.space.require_nested(task.example_of(2))
    if device is not None:
        supernet.to(compute_device(device))
    if run is None:
        return train_in(None, supernet, task, chosen, progress, workers)
    with locked(Path(run), warnings.warn):
        return train_in(Path(run), supernet, task, chosen, progress, workers)


def train_in(
    folder: Path | None,
    supernet: Supernet,
    task: Task,
    recipe: Recipe,
    progress: Progress | None = None,
    workers: int = 1,
) -> History:
    """`train` for a caller that holds the lock of `folder`."""
    if workers > 1:
        return _together(folder, supernet, task, recipe, progress, workers)
    trainer = Trainer(supernet, task, recipe, folder / CHECKPOINTS if folder else None)
    trainer.resume()
    trainer.begin()
    while not trainer.finished:
        row = trainer.advance()
        if progress is not None:
            progress(trainer.step, trainer.steps, row)
    trainer.finish()
    return trainer.history


def check_call(supernet: Supernet, task: Task) -> None:
    """Errors: no task; inputs that the forward of the largest net does not take."""
    if not isinstance(task, Task):
        raise UserError(
            f"task must be a nas.Task, got {type(task).__name__}; make one: nas.Task.of(train=..., validation=...)"
        )
    args, keywords = arguments(task.example)
    taken = signature(supernet.space.skeleton(supernet.space.largest).forward)
    try:
        taken.bind(*args, **keywords)
    except TypeError as error:
        given = [*(f"argument {i + 1}" for i in range(len(args))), *keywords]
        raise UserError(
            f"a batch gives the net {', '.join(given)}, which its forward{taken} does not take ({error}); say in the "
            "task inputs='image' (its one argument), several parts, or keywords: inputs={'x': 'image'}"
        ) from None


def _together(
    folder: Path | None, supernet: Supernet, task: Task, recipe: Recipe, progress: Progress | None, workers: int
) -> History:
    """The last step's checkpoint of several processes, as this process would have ended."""
    from .parallel import train_together  # Ray is slow to import

    with tempfile.TemporaryDirectory() as temporary:
        checkpoints = (folder or Path(temporary)).resolve() / CHECKPOINTS
        device = next(supernet.parameters()).device
        train_together(checkpoints, supernet, task, recipe, workers, progress)
        trainer = Trainer(supernet.to(device), task, recipe, checkpoints)
        trainer.resume()
    trainer.finish()
    return trainer.history
