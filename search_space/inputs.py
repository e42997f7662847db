"""What a module is called with and what it gives back: one tensor, several, or a mapping, nested in any way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils._pytree import tree_map

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


def tensors_in(outputs: Any) -> list[Tensor]:
    """All tensors in tuples, lists, mappings and dataclasses (such as the `ModelOutput`s of transformers), in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        parts: Sequence[Any] = list(outputs.values())
    elif isinstance(outputs, (list, tuple)):
        parts = outputs
    elif is_dataclass(outputs) and not isinstance(outputs, type):
        parts = [getattr(outputs, f.name) for f in fields(outputs)]
    else:
        return []
    return [tensor for part in parts for tensor in tensors_in(part)]


def random_like(inputs: Inputs, generator: Generator) -> Any:
    """Inputs of the same form with random values: floats are normal, integers range over those of the example."""

    def drawn(x: Tensor) -> Tensor:
        if x.is_floating_point():
            return torch.randn(x.shape, generator=generator).to(x.dtype)
        if x.dtype == torch.bool or x.numel() == 0:
            return x
        return torch.randint(int(x.min()), int(x.max()) + 1, x.shape, generator=generator).to(x.dtype)

    return map_tensors(drawn, inputs)
