"""Subnets as a trie: a node is a stage behind the same stages, so nets that begin alike share their first nodes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import nn

from ..search_space.architecture import Architecture
from ..search_space.quantization import policy_of
from ..search_space.stages import Stage, stages_of
from .identity import stage_key
from .store import Supernet


@dataclass(frozen=True)
class Leaf:
    """One net of a trie. Depths count stages.

    index: its place among the architectures asked for; net: its skeleton, in evaluation mode;
    shared: how deep the path that it has in common with the leaf before (0 for the first);
    branches: depths at which later leaves part from its path, ascending.
    """

    index: int
    architecture: Architecture
    net: nn.Module
    shared: int
    branches: tuple[int, ...]


def make_trie(supernet: Supernet, architectures: Sequence[Architecture]) -> list[Leaf]:
    """The leaves in the order of a depth-first walk that begins with the first architecture.

    Nets that cannot go together are left out: those that are no chain of stages, those with running statistics, which
    are measured anew for every net, and those with a quantization policy, which have scales of their own.
    """
    nets = [supernet.space.skeleton(a).eval() for a in architectures]
    paths: dict[int, tuple[int, ...]] = {}
    nodes: dict[Hashable, int] = {}
    for index, (architecture, net) in enumerate(zip(architectures, nets, strict=True)):
        calibrated = supernet.is_calibrated(architecture)
        stages = stages_of(net) if calibrated and not policy_of(net) else None
        if stages is not None:
            paths[index] = _path(_keys(supernet, architecture, net, stages), nodes)
    order = sorted(paths, key=lambda index: paths[index])
    shared = [0, *(_common(paths[a], paths[b]) for a, b in pairwise(order))]
    return [
        Leaf(index, architectures[index], nets[index], shared[rank], _branches(shared[rank + 1 :]))
        for rank, index in enumerate(order)
    ]


def _keys(supernet: Supernet, architecture: Architecture, net: nn.Module, stages: Sequence[Stage]) -> list[Hashable]:
    """The identity of every stage; that of a tensor of the supernet's is its name and its corner."""
    corners = supernet.corners(architecture) | supernet.buffer_corners(architecture)
    tensors = (*net.named_parameters(), *net.named_buffers())
    shared = {id(t): (name, corners[name]) for name, t in tensors if name in corners}
    return [stage_key(stage, shared) for stage in stages]


def _path(keys: Sequence[Hashable], nodes: dict[Hashable, int]) -> tuple[int, ...]:
    """The nodes from the root down, numbered as they are first met."""
    root = -1
    return tuple(accumulate(keys, lambda node, key: nodes.setdefault((node, key), len(nodes)), initial=root))[1:]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix of two paths; from where they part, no node of theirs is the same."""
    return sum(left == right for left, right in zip(a, b, strict=False))


def _branches(shared: Sequence[int]) -> tuple[int, ...]:
    """From what each later leaf shares with the one before it: the depths at which they part from this one."""
    return tuple(sorted(set(accumulate(shared, min))))
