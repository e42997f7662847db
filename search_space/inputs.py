"""What a module is called with and what it gives back: one tensor, several, or a mapping, nested in any way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils._pytree import tree_map

from .watching import Watching

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""An example of a module's inputs: a tensor is the one argument, a sequence all arguments, a mapping all keywords."""


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(positional arguments, keyword arguments) of one call."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return ((inputs,) if isinstance(inputs, Tensor) else tuple(inputs)), {}


def call(module: nn.Module, inputs: Inputs) -> Any:
    """`module(inputs)`, as the form of `inputs` says."""
    args, kwargs = arguments(inputs)
    return module(*args, **kwargs)


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Any:
    """The same inputs with every tensor replaced by `function(tensor)`."""
    return tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, inputs)


def named_tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in mappings, dataclasses (such as the `ModelOutput`s of transformers), tuples and lists, in order.

    Their names: `logits`, `output_1`, `hidden.output_0`.
    """
    if isinstance(value, Tensor):
        yield name or "output", value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from named_tensors_in(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for at, part in enumerate(value):
            yield from named_tensors_in(part, f"{name or 'output'}_{at}")
    elif is_dataclass(value) and not isinstance(value, type):
        yield from named_tensors_in({f.name: getattr(value, f.name) for f in fields(value)}, name)


def tensors_in(outputs: Any) -> list[Tensor]:
    """The same without their names."""
    if isinstance(outputs, Tensor):  # at once: calls that are timed end here
        return [outputs]
    return [tensor for _, tensor in named_tensors_in(outputs)]


def random_like(inputs: Inputs, generator: Generator, module: nn.Module | None = None) -> Any:
    """Inputs of the same form with random values: floats are normal, integers range over those of the example.

    With a `module`, tokens (whatever it looks up in an embedding table) range over the rows of the table; other
    integers (lengths, masks) stay as they are.
    """
    rows = {} if module is None else vocabularies(module, inputs, generator)

    def drawn(x: Tensor) -> Tensor:
        if id(x) in rows:
            return torch.randint(rows[id(x)], x.shape, generator=generator).to(x.dtype)
        if x.is_floating_point():
            return torch.randn(x.shape, generator=generator).to(x.dtype)
        if x.dtype == torch.bool or x.numel() == 0 or module is not None:
            return x
        return torch.randint(int(x.min()), int(x.max()) + 1, x.shape, generator=generator).to(x.dtype)

    return map_tensors(drawn, inputs)


def vocabularies(module: nn.Module, inputs: Inputs, generator: Generator) -> dict[int, int]:
    """Rows of the smallest embedding table that each whole-numbered input is looked up in, by the id of the tensor.

    The module is called with random bits in the place of those inputs, and its look-ups of the same bits are theirs.
    """
    originals: dict[int, Tensor] = {}

    def bits(x: Tensor) -> Tensor:
        if x.dtype == torch.bool or x.is_complex() or not torch.equal(x, x.round()):
            return x
        originals[id(x)] = torch.randint(2, x.shape, generator=generator).to(x.dtype)
        return originals[id(x)]

    trial = map_tensors(bits, inputs)
    with torch.no_grad(), _Lookups() as lookups, suppress(Exception):  # a net may refuse such inputs
        call(module, trial)
    rows: dict[int, int] = {}
    for key, drawn in originals.items():
        sizes = [n for n, index in lookups.seen if index.numel() == drawn.numel() and _same(index, drawn)]
        rows |= {key: min(sizes)} if sizes else {}
    return rows


def _same(index: Tensor, drawn: Tensor) -> bool:
    return torch.equal(index.flatten().double(), drawn.flatten().double())


class _Lookups(Watching):
    """Notes the rows and the indices of every embedding that is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.embedding:
            self.seen.append((len(args[0]), args[1]))
        return func(*args, **(kwargs or {}))
