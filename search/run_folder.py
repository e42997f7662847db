"""A run: one folder that holds a trained supernet and what searches made of it.

run.json              task, space, recipe and the run whose weights it starts from: enough to open the run again
checkpoints/          an unfinished (or the last) training state
supernet.safetensors  the trained shared weights, and the learned quantization steps, if any
history.json          training curve and events
manifest.json         SHA-256 of these files: what does not fit together is refused
study.db, front.csv, report.html, best/   of the newest search; answer.json lists the SHA-256 of the last three
.lock                 who works in the folder now
search.log            what every search of the run did, and when
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import UserError
from ..files import cache_folder, read_json, sha256_of, write_atomic
from ..search_space.locate import Description, describe_space, policies_in, space_from
from ..search_space.python_file import keep_approvals
from ..search_space.quantization import Quantization
from ..search_space.space import SearchSpace
from ..supernet.checkpoint import checkpoints
from ..supernet.compute import compute_device
from ..supernet.quantize.learned import is_few
from ..supernet.recipe import Recipe, make_recipe
from ..supernet.saved import NAME, packed
from ..supernet.store import Supernet
from ..supernet.train import Progress, train_in
from ..supernet.trainer import History
from ..tasks import Task, load_task
from ..tasks.python_task import recorded, shown
from ..tasks.registry import is_file
from .manifest import check_manifest, write_manifest

CURVE, MANIFEST, DESCRIPTION = "history.json", "manifest.json", "run.json"


@dataclass(frozen=True)
class Run:
    """What a run is of. The task, the space and the supernet are loaded when they are first asked for.

    init: the folder of the run whose trained weights the training starts from, if it does not start from nothing.
    """

    folder: Path
    task_name: str
    description: Description
    recipe: Recipe = field(default_factory=Recipe)
    init: str | None = None

    @cached_property
    def task(self) -> Task:
        return load_task(self.task_name)

    @cached_property
    def space(self) -> SearchSpace:
        try:
            return space_from(self.description)
        except (KeyError, TypeError, ValidationError) as error:  # only who edits run.json can cause them
            raise UserError(f"{self.folder / DESCRIPTION} describes no space: {error!r}; restore the file") from None

    @property
    def weights(self) -> Path:
        return self.folder / NAME

    def exists(self) -> bool:
        return (self.folder / DESCRIPTION).exists()

    def is_trained(self) -> bool:
        return self.weights.exists()

    def is_begun(self) -> bool:
        """Whether there is anything that the recipe has made."""
        return self.is_trained() or bool(checkpoints(self.folder / "checkpoints"))

    def check_trained(self) -> None:
        """Error: it has not been trained."""
        if not self.is_trained():
            raise UserError(f"{self.folder} holds no trained supernet; run `nas train --run {self.folder}` first")

    def check_files(self) -> None:
        """Error: what was trained is damaged, or of another run than run.json says."""
        if not self.is_trained():
            return
        if not (self.folder / MANIFEST).exists():
            raise UserError(
                f"{self.folder} has a {self.weights.name} without {MANIFEST}, which says what it belongs to: it was "
                "trained by an older version of nas, or is of another origin; train in another folder"
            )
        check_manifest(self.folder / MANIFEST)

    def supernet(self, device: str = "cpu") -> Supernet:
        """The trained supernet, on a compute device. Errors: it is not trained; files are damaged or of another run."""
        self.check_trained()
        self.check_files()
        return Supernet.load(self.folder, self.space).to(compute_device(device))

    @property
    def quantization(self) -> Quantization | None:
        """The policies of the run's own space, if it has any."""
        return policies_in(self.description)

    def quantized(self, quantization: Quantization) -> "Run":
        """The same run, whose nets have a quantization policy; the weights are the same."""
        return replace(self, description={**self.description, "quantize": quantization.fields})

    def train(self, progress: Progress | None = None, device: str = "cpu", workers: int = 1) -> Supernet:
        """Train the supernet (or go on) and keep it; the caller holds the folder's lock. A trained one is loaded."""
        if self.is_trained():
            return self.supernet(device)
        self.check()
        supernet = self._untrained().to(compute_device(device))  # before anything is written: both may be wrong
        self.save()
        history = train_in(self.folder, supernet, self.task, self.recipe, progress, workers)
        self._keep(history, packed(supernet))
        return supernet

    def _keep(self, history: History, weights: bytes) -> None:
        """Write the curve, what belongs together, and last the weights: their presence says that all else is there."""
        write_atomic(self.folder / CURVE, json.dumps({"rows": history.rows, "events": history.events}))
        files = {name: sha256_of(self.folder / name) for name in (DESCRIPTION, CURVE)}
        write_manifest(self.folder / MANIFEST, {**files, self.weights.name: hashlib.sha256(weights).hexdigest()})
        write_atomic(self.weights, weights)

    def check(self) -> None:
        """Errors: a space that cannot be built; a batch that is larger than the data."""
        _ = self.space
        self.task.batch_size_for(self.recipe.batch_size)

    def _untrained(self) -> Supernet:
        if self.init is None:
            return Supernet(self.space, seed=self.recipe.seed)
        return open_run(Path(self.init)).supernet().serving(self.space)

    def history(self) -> History:
        """The training curve (empty where there is none)."""
        path = self.folder / CURVE
        try:
            return History(**json.loads(path.read_text())) if path.exists() else History()
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is not a training curve: {error}; restore the file") from None

    def save(self) -> None:
        """Write run.json, and remember that the user named the space file, if there is one."""
        content = {"task": self.task_name, "space": dict(self.description), "recipe": self.recipe.model_dump()}
        content |= {"init": self.init} if self.init is not None else {}
        keep_approvals()
        write_atomic(self.folder / DESCRIPTION, json.dumps(content, indent=1))


def open_run(folder: Path) -> Run:
    """The run that a folder holds. Errors: it holds none, or files of a trained one that do not fit together."""
    path = folder / DESCRIPTION
    if not path.exists():
        raise UserError(f"{folder} holds no run ({DESCRIPTION}); make one with `nas train --run {folder}`")
    run = _described(folder, read_json(path, "a run"))
    run.check_files()
    return run


def _described(folder: Path, content: Mapping[str, Any]) -> Run:
    task, space, recipe, init = (content.get(name) for name in ("task", "space", "recipe", "init"))
    if not isinstance(task, str) or not isinstance(space, dict) or not isinstance(recipe, dict):
        raise UserError(f"{folder / DESCRIPTION} is not a description of a run: it needs task, space and recipe")
    try:
        return Run(folder, task, space, make_recipe(None, recipe), None if init is None else str(init))
    except UserError as error:
        raise UserError(f"{folder / DESCRIPTION}: {error}") from None


def prepare_run(
    folder: Path | None,
    task: str | None,
    space: str | None,
    knobs: Mapping[str, Any],
    *,
    init: Path | None = None,
    quantize: Quantization | None = None,
) -> Run:
    """The run for a task, a space and training knobs: an existing folder is opened, and must agree with what is asked.

    folder None: one in the cache, named after all the rest. knobs: of `Recipe`. init: another run to start from; task,
    space and knobs that are not stated are its own.
    quantize: the policies that nets are trained with, from the weights of `init`.
    """
    task = recorded(task) if task is not None and is_file(task) else task
    if folder is not None and (folder / DESCRIPTION).exists():
        run = open_run(folder)
        if not run.is_begun():
            run = replace(run, recipe=make_recipe(run.recipe, knobs))
        _agree(run, task, space, make_recipe(run.recipe, knobs))
        _agree_on_start(run, init, quantize)
        return run
    if quantize is not None:
        _check_qat(init, quantize)
        knobs = {**knobs, "qat": True}
    run = (
        _new("digits" if task is None else task, space, knobs)
        if init is None
        else _after(open_run(init), task, space, knobs)
    )
    run = run if quantize is None else run.quantized(quantize)
    return replace(run, folder=_in_cache(run, run.task.space if space is None else space) if folder is None else folder)


def _check_qat(init: Path | None, quantize: Quantization) -> None:
    if init is None:
        raise UserError(
            "quantization-aware training starts from floats; train a run without --quantize and name it by --init"
        )
    if not any(map(is_few, quantize.schemes)):
        raise UserError(
            f"quantization-aware training with {', '.join(quantize.texts)} gains nothing: at 8 bits and more "
            "`nas search --quantize` does as well without it; name schemes of fewer bits, as in w8a8,w2a8"
        )


def _new(task: str, space: str | None, knobs: Mapping[str, Any]) -> Run:
    loaded = load_task(task)
    if space is None and not loaded.space:
        raise UserError(
            f"task {shown(task)} names no default space; give one: --space PRESET, FILE.yaml or FILE.py:FUNCTION"
        )
    description = describe_space(loaded.space if space is None else space, loaded.input_shape, loaded.classes)
    return Run(Path(), task, description, make_recipe(None, knobs))


def _after(other: Run, task: str | None, space: str | None, knobs: Mapping[str, Any]) -> Run:
    """A run that starts from the weights of another. Errors: it is not trained, or of another task or space."""
    _agree(other, task, space, other.recipe, "--init")
    other.check_trained()
    return replace(other, recipe=make_recipe(other.recipe, knobs), init=str(other.folder.resolve()))


def _in_cache(run: Run, space: str) -> Path:
    start = [run.init] if run.init else []
    key = json.dumps([run.task_name, run.description, run.recipe.identity(), *start], sort_keys=True, default=str)
    name = f"{Path(run.task_name.split(':')[0]).stem}-{Path(space.split(':')[0]).stem}"
    return cache_folder() / "runs" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _agree(run: Run, task: str | None, space: str | None, recipe: Recipe, option: str = "--run") -> None:
    if task is not None and task != run.task_name:
        raise UserError(
            f"{run.folder} is a run of task {shown(run.task_name)!r}, not {shown(task)!r}; name another {option}"
        )
    if space is not None:
        asked = describe_space(space, run.task.input_shape, run.task.classes)
        if asked != {n: v for n, v in run.description.items() if n != "quantize"}:
            raise UserError(f"{run.folder} is a run of another space than {space!r}; name another {option}")
    if recipe != run.recipe:
        raise UserError(f"{run.folder} is a run with other training knobs; leave them out or name another --run")


def _agree_on_start(run: Run, init: Path | None, quantize: Quantization | None) -> None:
    if init is not None and run.init != str(init.resolve()):
        start = run.init or "no other run"
        raise UserError(f"{run.folder} is a run that starts from {start}, not from {init}; name another --run")
    if quantize is not None and run.quantization != quantize:
        raise UserError(f"{run.folder} is a run with other quantization policies; leave them out or name another --run")
