"""When two stages of two subnets are one and the same: all that can be reached from them is equal."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import is_dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

Key = Hashable
PLAIN = frozenset({type(None), bool, int, str, bytes, torch.dtype, torch.device, torch.Size})
TENSORS = frozenset({Tensor, nn.Parameter, nn.Buffer})


def stage_key(stage: object, parameters: Mapping[int, Key]) -> Key:
    """Equal for two stages only if they compute the same; parameters are told apart by what `parameters` (by id) says.

    Read are classes, every attribute of every module (so also options, buffers by content, hooks and the mode), what a
    `partial` or a bound method holds, and which of these occur twice. What is not understood (a lambda, a generator,
    an object of another library) equals itself only: doubt costs sharing, never truth. Not seen is what lives
    outside a stage: globals, and attributes of classes.
    """
    return _Reader(parameters).read(stage)


class _Itself:
    """Equal by identity. It holds the object, so that no other one gets its id meanwhile."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


class _Reader:
    """Reads one stage. `seen` numbers what may be changed in place, in order: a cycle ends, and an alias is told."""

    def __init__(self, parameters: Mapping[int, Key]) -> None:
        self.parameters = parameters
        self.seen: dict[int, tuple[int, object]] = {}

    def read(self, thing: Any) -> Key:
        kind = type(thing)
        if kind in PLAIN:
            return kind, thing
        if kind is float or kind is complex:
            return kind, repr(thing)  # 0.0 == -0.0
        if kind is tuple:
            return kind, tuple(map(self.read, thing))
        if (kind is dict or kind is OrderedDict) and not thing:
            return kind  # most of a module's attributes are hooks that are not there
        if id(thing) in self.seen:
            return "again", self.seen[id(thing)][0]
        self.seen[id(thing)] = len(self.seen), thing
        return self._read(thing, kind)

    def _read(self, thing: Any, kind: type) -> Key:
        if kind is list:
            return kind, tuple(map(self.read, thing))
        if kind is dict or kind is OrderedDict:
            return kind, tuple((self.read(k), self.read(v)) for k, v in thing.items())
        if kind is set or kind is frozenset:
            return kind, frozenset(map(self.read, thing))
        if kind is partial:
            return kind, self.read(thing.func), self.read(thing.args), self.read(thing.keywords)
        if kind is MethodType:
            return kind, self.read(thing.__func__), self.read(thing.__self__)
        if isinstance(thing, Tensor):
            return self._tensor(thing)
        if (isinstance(thing, nn.Module) or is_dataclass(kind)) and not _has_slots(kind):
            return kind, self.read(vars(thing))
        return _Itself(thing)

    def _tensor(self, tensor: Tensor) -> Key:
        if id(tensor) in self.parameters:
            return "parameter", self.parameters[id(tensor)], tensor.requires_grad
        if type(tensor) not in TENSORS or tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
            return _Itself(tensor)
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest = hashlib.sha256(content.tobytes()).digest()
        return type(tensor), tensor.dtype, tensor.device, tensor.shape, tensor.stride(), tensor.requires_grad, digest


def _has_slots(kind: type) -> bool:
    """Whether objects have attributes that `vars` does not show."""
    return any(base.__dict__.get("__slots__") for base in kind.__mro__)
