"""What modules are for a while: in evaluation mode, with other tensors, without torch's fused layers."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Slot = tuple[dict[str, Any], str, str]
"""A place that holds a tensor: parameters or buffers of a module, the local name, and the tensor's name in the net."""


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every submodule gets its own flag back."""
    training = [part for module in modules for part in module.modules() if part.training]
    try:
        for part in training:
            _set_training(part, False)
        yield
    finally:
        for part in training:
            _set_training(part, True)


def _set_training(part: nn.Module, value: bool) -> None:
    if isinstance(part, torch.jit.ScriptModule):
        part.training = value
    else:
        vars(part)["training"] = value  # the flag itself: `Module.__setattr__` is slow


@contextmanager
def unfused() -> Iterator[None]:
    """torch's encoder layers run as their operators: what fuses a whole layer hides its parts."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def slots_of(module: nn.Module, names: Collection[str]) -> list[Slot]:
    """Every place that holds a tensor of these names, each module once: ties share a name."""
    named = {id(t): n for n, t in (*module.named_parameters(), *module.named_buffers()) if n in names}
    return [
        (places, local, named[id(tensor)])
        for owner in module.modules()
        for places in (owner._parameters, owner._buffers)
        for local, tensor in places.items()
        if tensor is not None and id(tensor) in named
    ]


@contextmanager
def filled(slots: Sequence[Slot], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put `values` in place for a while.

    `torch.func.functional_call` (2.13) does not restore a module that is registered under two names.
    """
    empty = [places[local] for places, local, _ in slots]
    try:
        for places, local, name in slots:
            places[local] = values[name]
        yield
    finally:
        for (places, local, _), nothing in zip(slots, empty, strict=True):
            places[local] = nothing
