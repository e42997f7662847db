"""Extensions from outside the package: what is registered here is found by its name everywhere.

A package that is installed registers by itself: an entry point of the group `nas.plugins` names a module that calls
these functions, or a function that does. In `pyproject.toml`:

    [project.entry-points."nas.plugins"]
    mine = "my_package.my_operators"
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import UserError, quoted, unknown

if TYPE_CHECKING:
    from torch import nn

    from .tasks import Task

Module = TypeVar("Module", bound="nn.Module")
Loader = TypeVar("Loader", bound="Callable[[str | None], Task]")


def operator(
    slot: str, name: str, *, genes: Mapping[str, Sequence[Any]] = MappingProxyType({}), **capabilities: Any
) -> Callable[[type[Module]], type[Module]]:
    """Decorator: an `nn.Module` as operator `name` of a slot, for `nas.TransformerSpace` and YAML spaces.

    The module has `__init__(self, width, ...)` and `forward(self, x, context)`: x and the result have the shape
    (batch, tokens, width) in the slots mixer, ffn, norm and position; a stem takes the net's input, a readout returns
    (batch, ..., classes). Its other parameters are filled by name: facts of the net (`head_dim`, `kv_heads`, `group`,
    `hidden`, `activation`, `layer`, `tokens`, `grid`, `patch`, ...), and its own genes.

    slot: mixer, ffn, norm, position, stem or readout.
    genes: the parameters that are searched and their default options; numbers must nest (`nas.testing`).
    capabilities: what it can do: layouts={"sequence", "grid", "set"}, causal=False, changes_tokens=False,
        needs_prefix=False, onnx=True, leaves and reads (names in `context.memory`).
    Errors: a slot or capability that does not exist, a name that is taken, a parameter that nobody fills, a gene that
    another operator of the slot has with other options.

    >>> @nas.register.operator("ffn", "bottleneck", genes={"inner": (8, 16)}, causal=True)
    ... class Bottleneck(nn.Module):
    ...     def __init__(self, width, inner):
    ...         super().__init__()
    ...         self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)
    ...
    ...     def forward(self, x, context):
    ...         return self.up(self.down(x).relu())
    >>> space = nas.TransformerSpace(ffn=("mlp", "bottleneck"))
    """
    from .search_space.operators import base

    base.discover()  # so that a name that is taken is an error here, and not in the package
    flags = [each.name for each in fields(base.Capabilities)]
    for flag in capabilities:
        if flag not in flags:
            raise unknown("capability", flag, flags)
    for layout in (given := capabilities.get("layouts", base.EVERY_LAYOUT)):
        if layout not in base.EVERY_LAYOUT:
            raise unknown("layout of tokens", layout, sorted(base.EVERY_LAYOUT))
    _check_name("operator", name)
    flags_of = base.Capabilities(**{**capabilities, "layouts": frozenset(given)})
    return base.register(slot, name, flags_of, genes)  # type: ignore[arg-type]


def task(name: str) -> Callable[[Loader], Loader]:
    """Decorator: a function as task `name`, for `nas.load_task(name)` and `--task name`.

    The function takes what follows a colon in the name (`--task name:ARGUMENT`), None without one, and returns a
    `nas.Task`. Errors: a name that is taken, or that is none.

    >>> @nas.register.task("flowers")
    ... def flowers(argument):
    ...     return nas.Task.of(train=..., validation=..., loss=nn.CrossEntropyLoss(), name="flowers")
    """
    from .tasks import registry

    _check_name("task", name)
    if name in registry.MODULES:
        raise UserError(f"there is a task {name!r} already; give this one another name")
    return registry.register(name)  # type: ignore[return-value]


def device(source: str | PathLike[str] | Mapping[str, Any]) -> str:
    """Add a device: the path of a device file (YAML or JSON, see docs/devices.md), or its content as a mapping.

    Returns its name, by which `nas.load_device`, `--target` and `nas devices` find it. Milliseconds, MiB and mJ are the
    units of its fields. Errors: a file or mapping that is no device; a name that another device has.

    >>> nas.register.device("my-board.yaml")
    'my-board'
    """
    from .hw_profiles.catalog import register_device

    return register_device(source)


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise UserError(f"the name of a {kind} has letters, digits, - and _, got {quoted(name)}")
