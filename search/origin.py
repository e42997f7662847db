"""What a supernet is trained on and how: task, space and recipe, by names that can be opened again or as objects."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Self

from pydantic import ValidationError

from ..errors import UserError
from ..search_space.adopted.space import AdoptedSpace
from ..search_space.locate import OBJECT, Description, describe_space, policies_in, space_from, with_policies
from ..search_space.quantization import Quantization
from ..search_space.space import SearchSpace
from ..search_space.transformer import TransformerSpace
from ..supernet.compute import compute_device
from ..supernet.recipe import Recipe, make_recipe
from ..supernet.store import Supernet
from ..supernet.train import train_in
from ..supernet.trainer import History
from ..tasks import Task, load_task
from ..tasks.python_task import recorded, shown
from ..tasks.registry import is_file

Progress = Callable[[str, int, int, Any], None]
"""Called with the stage in words, what is done, of how many (0: not known), and its state: the row of a training step,
the study of a search, else None."""
BY_NAME = "by name as --task FILE.py:FUNCTION and --space FILE.py:FUNCTION"


def silent(stage: str, done: int, total: int, state: Any) -> None:
    """Shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Task and space are loaded when they are first asked for; those that are objects are given.

    description: of the space, with "quantize" where its nets have quantization policies. init: the folder of the run
    whose trained weights the training starts from, if it does not start from nothing.
    """

    task_name: str
    description: Description
    recipe: Recipe = field(default_factory=Recipe)
    init: str | None = None
    given_task: Task | None = None
    given_space: SearchSpace | None = None

    @cached_property
    def task(self) -> Task:
        if self.given_task is not None:
            return self.given_task
        if self.task_name.startswith(f"{OBJECT} "):
            raise UserError(f"{self} has a task that is a Python object; give it to nas.find, or state it {BY_NAME}")
        return load_task(self.task_name)

    @cached_property
    def space(self) -> SearchSpace:
        if self.given_space is not None:
            return with_policies(self.given_space, self.quantization)
        try:
            return space_from(self.description)
        except (KeyError, TypeError, ValidationError) as error:  # only who edits run.json can cause them
            raise UserError(f"{self} describes no space: {error!r}; restore the file") from None

    def __str__(self) -> str:
        return shown(self.task_name)

    @property
    def has_names(self) -> bool:
        """Whether another process can open task and space."""
        return not self.task_name.startswith(f"{OBJECT} ") and OBJECT not in self.description

    @property
    def quantization(self) -> Quantization | None:
        """The policies of the nets, if they have any."""
        return policies_in(self.description)

    def quantized(self, quantization: Quantization) -> Self:
        """The same, whose nets have a quantization policy; the weights are the same."""
        return replace(self, description={**self.description, "quantize": quantization.fields})

    def check(self) -> None:
        """Errors: a space that cannot be built; a batch that is larger than the data."""
        _ = self.space
        self.task.batch_size_for(self.recipe.batch_size)

    def require_nested(self) -> None:
        """Error: as of `SearchSpace.require_nested`; of a training that has begun it has been checked."""
        self.space.require_nested(self.task.example_of(2))

    def trained(self, progress: Progress = silent, device: str = "cpu") -> tuple[Supernet, History]:
        """The supernet, trained on a compute device, and how that went."""
        self.check()
        supernet = Supernet(self.space, seed=self.recipe.seed).to(compute_device(device))
        return supernet, train_in(None, supernet, self.task, self.recipe, partial(progress, "Training"))


def origin_of(task: str | Task, space: str | TransformerSpace | SearchSpace | None, knobs: Mapping[str, Any]) -> Origin:
    """Task, space and training knobs, by name or as objects. space None: the task's own. Error: it names none."""
    loaded = load_task(task) if isinstance(task, str) else task
    if space is None and not loaded.space:
        raise UserError(
            f"task {shown(name_of(task))} names no default space; give one: --space PRESET, FILE.yaml or "
            "FILE.py:FUNCTION, or an object in Python"
        )
    return Origin(
        task_name=name_of(task),
        description=description_of(space or loaded.space, loaded),
        recipe=make_recipe(None, knobs, loaded),
        **given(task, space),
    )


def given(task: str | Task | None, space: object) -> dict[str, Any]:
    """Those of them that are objects, as fields of an `Origin`."""
    return {
        **({"given_task": task} if isinstance(task, Task) else {}),
        **({"given_space": space} if isinstance(space, SearchSpace) else {}),
    }


def name_of(task: str | Task) -> str:
    """What is kept of a task: the name that opens it, with the checksum of its file; of an object name and sizes."""
    if isinstance(task, Task):
        sizes = [each.size for each in (task.train, task.validation)]
        return f"{OBJECT} {task.name!r} ({task.metric.name}, {sizes[0]} samples to train, {sizes[1]} to validate)"
    return recorded(task) if is_file(task) else task


def description_of(space: str | TransformerSpace | SearchSpace, task: Task) -> Description:
    """What is kept of a space, for this task; of an object a hash of its genes."""
    if isinstance(space, SearchSpace) and isinstance(space.function, AdoptedSpace):
        return describe_space(space.function, **task.interface)
    if not isinstance(space, SearchSpace):
        return describe_space(space, **task.interface)
    genes = json.dumps({name: list(gene.options) for name, gene in space.genes.items()})
    fit = {"input_shape": list(task.input_shape), "classes": task.classes}
    return {OBJECT: hashlib.sha256(genes.encode()).hexdigest(), **fit}
