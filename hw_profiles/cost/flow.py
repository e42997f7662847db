"""Who made what is read: data flow between the kernels of a trace, found by the storages that they read and write."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

Maker = int | str
"""A kernel, by its number in order of execution; an input of the net, by a negative number; a parameter, by name."""


class Move(NamedTuple):
    """Tensors that a kernel reads and writes. kernel: None where there is none: what is written is what was read."""

    kernel: int | None
    read: Sequence[Tensor]
    written: Sequence[Tensor]


def edges_of(sources: Mapping[Maker, Tensor], moves: Iterable[Move]) -> list[tuple[Maker, int]]:
    """(maker, kernel) for each kernel and each maker of what it reads, once.

    Views are followed, for they have the storage of what they view. A storage that is written piece by piece (slices,
    the directions of a recurrent layer) has several makers, and who reads any of it depends on all of them.
    sources: tensors that no kernel makes. moves: in order of execution, of tensors that are all still alive.
    """
    edges: dict[tuple[Maker, int], None] = {}
    makers: dict[int, tuple[Maker, ...]] = {}
    for source, tensor in sources.items():
        makers[_storage(tensor)] = (*makers.get(_storage(tensor), ()), source)
    for kernel, read, written in moves:
        before = tuple(dict.fromkeys(maker for tensor in read for maker in makers.get(_storage(tensor), ())))
        if kernel is not None:
            edges.update({(maker, kernel): None for maker in before if maker != kernel})
        for tensor in written:
            kept = () if _is_whole(tensor) else makers.get(_storage(tensor), ())
            makers[_storage(tensor)] = before if kernel is None else (*kept, kernel)
    return list(edges)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_whole(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
