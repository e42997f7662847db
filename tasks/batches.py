"""From a batch as a dataset gives it to what a net is called with and what it is compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UserError, unknown

Part = str | int
Parts = Part | tuple[Part, ...] | Mapping[str, Part] | Callable[[Any], Any] | None
"""A name or place in a batch; several of them; keywords of the net's forward by name; or a function of the batch."""
TARGETS = ("labels", "label", "targets", "target", "y")
"""Names under which a batch that is a mapping may hold its targets."""


@dataclass(frozen=True)
class Selection:
    """Which parts of a batch are inputs and which are targets.

    inputs: one part is the one argument of the net's forward; several names are keywords, several places are positional
        arguments; a mapping names the keywords itself. None: all but the target, as the batch has them.
    target: None: of a mapping what is called `labels`, `target` or `y`, of a sequence the last part; a lone tensor is
        its own target.
    """

    inputs: Parts = None
    target: Parts = None

    def __call__(self, batch: Any) -> tuple[Any, Any]:
        """(inputs, targets)."""
        batch = dict(batch) if isinstance(batch, Mapping) else batch
        target = self.target if self.target is not None else _target_in(batch, self.inputs)
        inputs = self.inputs if self.inputs is not None else _others(batch, target)
        return _picked(batch, inputs), batch if target is None else _picked(batch, target)


def _target_in(batch: Any, inputs: Parts) -> Parts:
    """Where the targets are. Error: a mapping that has none of the usual names."""
    if isinstance(batch, Tensor):
        return None
    if isinstance(batch, Mapping):
        present = [name for name in TARGETS if name in batch]
        if not present:
            raise UserError(f"a batch holds {_described(batch)}; say which part is the target: target='...'")
        return present[0]
    if len(batch) < 2 and inputs is None:
        raise UserError(f"a batch is {_described(batch)}; it needs inputs and targets, or say inputs= and target=")
    return len(batch) - 1


def _others(batch: Any, target: Parts) -> Parts:
    """All parts of the batch but the target: names as keywords, of a sequence the one argument or several."""
    if isinstance(batch, Tensor):
        return None
    if isinstance(batch, Mapping):
        names = target if isinstance(target, tuple) else (target,)
        return {name: name for name in batch if name not in names}
    places = target if isinstance(target, tuple) else (target,)
    rest = tuple(i for i in range(len(batch)) if i not in places and i - len(batch) not in places)
    return rest[0] if len(rest) == 1 else rest


def _picked(batch: Any, parts: Parts) -> Any:
    if parts is None:
        return batch
    if callable(parts):
        return parts(batch)
    if isinstance(parts, Mapping):
        return {name: _part(batch, part) for name, part in parts.items()}
    if isinstance(parts, tuple | list):
        picked = [_part(batch, part) for part in parts]
        names = [part for part in parts if isinstance(part, str)]
        return dict(zip(names, picked, strict=True)) if len(names) == len(picked) else tuple(picked)
    return _part(batch, parts)


def _part(batch: Any, part: Part) -> Any:
    if isinstance(batch, Mapping):
        if part not in batch:
            raise unknown("part of a batch", str(part), map(str, batch))
        return batch[part]
    if isinstance(batch, list | tuple) and isinstance(part, int) and -len(batch) <= part < len(batch):
        return batch[part]
    raise UserError(f"a batch is {_described(batch)}, which has no part {part!r}; say inputs= and target= by its parts")


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a mapping of {', '.join(map(str, batch))}"
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, list | tuple) else "")
