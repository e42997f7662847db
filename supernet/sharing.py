"""What many workers read and none changes travels to them without a copy: weights of supernets, data of tasks.

Ray keeps what is put into its store once a machine, and gives every process there a view of numpy arrays, not a copy.
Tensors have no such way (Ray 2.60), so those of `Supernet` and `Split` are sent as arrays. Other tensors, the user's
own, are copied to each worker: an objective may well train a net that it holds.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..search_space.python_file import USER_MODULE
from ..tasks import Split
from .store import Supernet
from .tree import Store

Packed = tuple[NDArray[np.uint8], torch.dtype, torch.Size] | Tensor
"""Bytes, type and shape of a tensor in this machine's memory; a tensor on another device as it is."""


@contextmanager
def shared(ray: Any) -> Iterator[None]:
    """While this lasts, Ray sends weights and data as arrays, and code of a space file with what it defines."""
    util, pickle = ray.util, ray.cloudpickle
    own = user_modules()
    for module in own:
        pickle.register_pickle_by_value(module)
    util.register_serializer(Supernet, serializer=_pack_supernet, deserializer=_unpack_supernet)
    util.register_serializer(Split, serializer=_pack_split, deserializer=_unpack_split)
    try:
        yield
    finally:
        for module in own:
            pickle.unregister_pickle_by_value(module)
        for kind in (Supernet, Split):
            util.deregister_serializer(kind)


def user_modules() -> list[ModuleType]:
    """Space files that were imported, and their neighbours that they import: no worker could find them by name."""
    files = {name: Path(file) for name, m in sys.modules.items() if (file := getattr(m, "__file__", None))}
    folders = {path.parent for name, path in files.items() if name.startswith(USER_MODULE)}
    return [sys.modules[name] for name, path in files.items() if path.parent in folders and name != "__main__"]


def pack(tensor: Tensor) -> Packed:
    if tensor.device.type != "cpu":
        return tensor.detach()
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy(), tensor.dtype, tensor.shape


def unpack(packed: Packed) -> Tensor:
    """The tensor on the very bytes, which must not be changed."""
    if isinstance(packed, Tensor):
        return packed
    array, dtype, shape = packed
    if not array.size:
        return torch.empty(shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array).view(dtype).view(shape)


def _pack_supernet(supernet: Supernet) -> tuple[Any, ...]:
    values = {name: (pack(p), p.requires_grad) for name, p in supernet.store.named_parameters()}
    buffers = {name: pack(b) for name, b in supernet.store.named_buffers()}
    steps = {key: pack(step) for key, step in supernet.steps.items()}
    layouts, state = (supernet.layouts, supernet.shared), (supernet.store.statistics_of, supernet.store.orders)
    return supernet.space, layouts, values, buffers, state, steps, supernet.training


def _unpack_supernet(parts: tuple[Any, ...]) -> Supernet:
    space, (layouts, shared), values, buffers, state, steps, training = parts
    parameters = {name: nn.Parameter(unpack(packed), grad) for name, (packed, grad) in values.items()}
    store = Store({**parameters, **{name: unpack(packed) for name, packed in buffers.items()}})
    store.statistics_of, store.orders = state
    supernet = Supernet.of(space, layouts, shared, store)
    supernet.steps = nn.ParameterDict({key: nn.Parameter(unpack(step), False) for key, step in steps.items()})
    return supernet.train(training)


def _pack_split(split: Split) -> tuple[Any, ...]:
    leaves, spec = tree_flatten((split.raw, split.targets))
    return [pack(leaf) for leaf in leaves], spec, split.prepare


def _unpack_split(parts: tuple[Any, ...]) -> Split:
    leaves, spec, prepare = parts
    raw, targets = tree_unflatten([unpack(leaf) for leaf in leaves], spec)
    return Split(raw, targets, prepare)
