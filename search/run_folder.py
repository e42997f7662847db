"""A run: one folder that holds a trained supernet and what searches made of it.

run.json              task, space, recipe and the run whose weights it starts from: enough to open the run again
checkpoints/          an unfinished (or the last) training state
supernet.safetensors  the trained shared weights, and the learned quantization steps, if any
history.json          training curve and events
start.json            nets that its searches evaluate first, if any
manifest.json         SHA-256 of these files: what does not fit together is refused
study.db, front.csv, report.html, best/   of the newest search; answer.json lists the SHA-256 of the last three
.lock                 who works in the folder now
search.log            what every search of the run did, and when
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError
from ..files import cache_folder, read_json, sha256_of, write_atomic
from ..lock import locked
from ..search_space.adopted.space import AdoptedSpace
from ..search_space.python_file import keep_approvals
from ..search_space.quantization import Quantization
from ..search_space.space import SearchSpace
from ..search_space.transformer import TransformerSpace
from ..supernet.checkpoint import checkpoints
from ..supernet.compute import compute_device
from ..supernet.quantize.learned import is_few
from ..supernet.recipe import Recipe, check_length, check_nets, make_recipe, with_original
from ..supernet.saved import NAME, packed
from ..supernet.store import Supernet
from ..supernet.train import train_in
from ..supernet.trainer import History
from ..tasks import Task
from ..tasks.python_task import shown
from .manifest import check_manifest, write_manifest
from .origin import BY_NAME, Origin, Progress, description_of, given, name_of, origin_of, silent

LOG = logging.getLogger("nas.run")
Space = str | TransformerSpace | SearchSpace
T = TypeVar("T")
CURVE, MANIFEST, DESCRIPTION = "history.json", "manifest.json", "run.json"


@dataclass(frozen=True, kw_only=True)
class Run(Origin):
    """A folder, and what its supernet is trained on."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

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

    def require_nested(self) -> None:
        if self.init is None and not self.is_begun():
            super().require_nested()

    def supernet(self, device: str = "cpu") -> Supernet:
        """The trained supernet, on a compute device. Errors: it is not trained; files are damaged or of another run."""
        self.check_trained()
        self.check_files()
        return Supernet.load(self.folder, self.space).to(compute_device(device))

    def trained(self, progress: Progress = silent, device: str = "cpu", workers: int = 1) -> tuple[Supernet, History]:
        """Train the supernet (or go on) and keep it; the caller holds the folder's lock. A trained one is loaded."""
        if self.is_trained():
            return self.supernet(device), self.history()
        self.check()
        supernet = self._untrained().to(compute_device(device))  # before anything is written: both may be wrong
        LOG.info("Training the supernet of %s once, kept in %s", shown(self.task_name), self.folder)
        self.save()
        history = train_in(self.folder, supernet, self.task, self.recipe, partial(progress, "Training"), workers)
        self._keep(history, packed(supernet))
        for event in history.events:
            LOG.info("Note: %s", event)
        return supernet, history

    def keep(self, supernet: Supernet) -> None:
        """Keep a supernet that was trained elsewhere. Error: the folder holds another."""
        weights = packed(supernet)
        if not self.is_trained():
            self.save()
            self._keep(History(), weights)
        elif sha256_of(self.weights) != hashlib.sha256(weights).hexdigest():
            raise UserError(f"{self.folder} holds another supernet than the given one; name another run")

    def _keep(self, history: History, weights: bytes) -> None:
        """Write the curve, what belongs together, and last the weights: their presence says that all else is there."""
        write_atomic(self.folder / CURVE, json.dumps({"rows": history.rows, "events": history.events}))
        files = {name: sha256_of(self.folder / name) for name in (DESCRIPTION, CURVE)}
        write_manifest(self.folder / MANIFEST, {**files, self.weights.name: hashlib.sha256(weights).hexdigest()})
        write_atomic(self.weights, weights)

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
        return Run(
            folder=folder,
            task_name=task,
            description=space,
            recipe=make_recipe(None, recipe),
            init=None if init is None else str(init),
        )
    except UserError as error:
        raise UserError(f"{folder / DESCRIPTION}: {error}") from None


@contextmanager
def alone(prepare: Callable[[], T], run_of: Callable[[T], Run | None]) -> Iterator[T]:
    """What `prepare` makes; no other process writes into the folder of its run, if it has one, while the block runs.

    It is prepared before anything is written, and again if another process has changed the folder meanwhile.
    """
    prepared = prepare()
    run = run_of(prepared)
    if run is None:
        yield prepared
        return
    existed = run.exists()
    with locked(run.folder, LOG.warning) as waited:
        yield prepare() if waited or run.exists() != existed else prepared


def prepare_run(
    folder: Path | None,
    task: str | Task | None,
    space: Space | None,
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
    check_length(knobs)
    if folder is not None and (folder / DESCRIPTION).exists():
        run = replace(open_run(folder), **given(task, space))
        if not run.is_begun():
            run = replace(run, recipe=make_recipe(run.recipe, knobs))
        _agree(run, task, space, make_recipe(run.recipe, knobs))
        _agree_on_start(run, init, quantize)
        return run
    if quantize is not None:
        _check_qat(init, quantize)
        knobs = {**knobs, "qat": True}
    origin = origin_of(task or "digits", space, knobs) if init is None else _after(init, task, space, knobs)
    origin = origin if quantize is None else origin.quantized(quantize)
    own = {each.name: getattr(origin, each.name) for each in fields(Origin)}
    return Run(folder=_in_cache(origin, space) if folder is None else folder, **own)


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


def _after(init: Path, task: str | Task | None, space: Space | None, knobs: Mapping[str, Any]) -> Run:
    """A run that starts from the weights of another. Errors: it is not trained, or of another task or space."""
    other = open_run(init)
    _agree(other, task, space, other.recipe, "--init")
    other.check_trained()
    if isinstance(other.space.function, AdoptedSpace):
        check_nets({**other.recipe.model_dump(), **knobs}, knobs)
        knobs = with_original(knobs)
    started = {"sampling": "uniform"} if other.recipe.sampling == "progressive" else {}  # which is for a start
    return replace(other, recipe=make_recipe(other.recipe, {**started, **knobs}), init=str(other.folder.resolve()))


def _in_cache(origin: Origin, space: Space | None) -> Path:
    """Error: a task or a space without a name, which the next call could not tell from another."""
    if not origin.has_names:
        raise UserError(f"a task or a space that is a Python object needs a run folder; name one, or both {BY_NAME}")
    start = [origin.init] if origin.init else []
    key = json.dumps(
        [origin.task_name, origin.description, origin.recipe.identity(), *start], sort_keys=True, default=str
    )
    text = space if isinstance(space, str) else origin.task.space
    name = f"{Path(origin.task_name.split(':')[0]).stem}-{Path(text.split(':')[0]).stem}"
    return cache_folder() / "runs" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _agree(run: Run, task: str | Task | None, space: Space | None, recipe: Recipe, option: str = "--run") -> None:
    if task is not None and name_of(task) != run.task_name:
        asked, own = shown(name_of(task)), shown(run.task_name)
        raise UserError(f"{run.folder} is a run of task {own!r}, not {asked!r}; name another {option}")
    if space is not None:
        description = description_of(space, run.task)
        if description != {n: v for n, v in run.description.items() if n != "quantize"}:
            asked = repr(space) if isinstance(space, str) else "the given one"
            raise UserError(f"{run.folder} is a run of another space than {asked}; name another {option}")
    if recipe != run.recipe:
        raise UserError(f"{run.folder} is a run with other training knobs; leave them out or name another --run")


def _agree_on_start(run: Run, init: Path | None, quantize: Quantization | None) -> None:
    if init is not None and run.init != str(init.resolve()):
        start = run.init or "no other run"
        raise UserError(f"{run.folder} is a run that starts from {start}, not from {init}; name another --run")
    if quantize is not None and run.quantization != quantize:
        raise UserError(f"{run.folder} is a run with other quantization policies; leave them out or name another --run")
