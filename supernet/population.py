"""Quality of many subnets at once: the stages that nets begin with alike are computed once."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..search_space.architecture import GeneValue
from ..search_space.stages import stages_of
from ..tasks import Split, Task
from .evaluate import EVALUATION_BATCH, outputs_of, score
from .shipped import as_shipped
from .statistics import placed
from .store import Supernet
from .trie import Leaf, make_trie

MEMORY_MIB = 512.0


def evaluate_subnets(
    supernet: Supernet,
    task: Task,
    architectures: Sequence[Mapping[str, GeneValue]],
    split: str = "validation",
    *,
    memory_mib: float = MEMORY_MIB,
) -> list[float]:
    """What `evaluate_subnet` gives for each architecture, to the bit: the same batches run through the same kernels.

    The more alike the nets are, the more is shared. Those that are no chain of stages (`search_space.stages`), whose
    running statistics are measured anew, or that are quantized, are evaluated one by one.
    memory_mib: how much may be kept of inputs and activations; one batch of inputs is, whatever it takes. With less
        room more is computed again.
    """
    return list(score_subnets(supernet, task, architectures, split, memory_mib=memory_mib))


def score_subnets(
    supernet: Supernet,
    task: Task,
    architectures: Sequence[Mapping[str, GeneValue]],
    split: str = "validation",
    *,
    memory_mib: float = MEMORY_MIB,
) -> Iterator[float]:
    """The numbers of `evaluate_subnets` in their order, each as soon as it and those before it are known."""
    data: Split = getattr(task, split)
    for outputs in outputs_of_subnets(supernet, task, architectures, data, memory_mib=memory_mib):
        yield score(task.metric, outputs, data.targets.cpu())


def outputs_of_subnets(
    supernet: Supernet,
    task: Task,
    architectures: Sequence[Mapping[str, GeneValue]],
    data: Split,
    *,
    memory_mib: float = MEMORY_MIB,
) -> Iterator[Tensor]:
    """Outputs (samples of `data`, ...) of the nets in their order, each as soon as it and those before are known."""
    canonical = [supernet.space.architecture(a) for a in architectures]
    trie = make_trie(supernet, canonical)
    walk = _walk(supernet, trie, data, int(memory_mib * 2**20))
    together, known = {leaf.index for leaf in trie}, dict[int, Tensor]()
    for index, architecture in enumerate(canonical):
        if index not in together:
            yield outputs_of(as_shipped(supernet, task, architecture).eval(), data)[0]
            continue
        while index not in known:
            done, outputs = next(walk)
            known[done] = outputs
        yield known.pop(index)


def _walk(supernet: Supernet, trie: Sequence[Leaf], data: Split, limit: int) -> Iterator[tuple[int, Tensor]]:
    """(index, outputs of the whole split) of every leaf.

    One batch goes through the whole trie and shows what must be kept on the way; then as many at once as there is room
    for. Where that is all the rest, nets are finished one after the other.
    """
    outputs: dict[int, list[Tensor]] = {leaf.index: [] for leaf in trie}
    batches = (_own(placed(x, supernet)) for x, _ in data.batches(EVALUATION_BATCH))
    left, size = max(1, -(-len(data) // EVALUATION_BATCH)), 1
    while left and trie:
        path = Path(limit)
        path.keep(0, list(islice(batches, size)))
        left -= size
        for leaf in trie:
            outputs[leaf.index] += _run(supernet, leaf, path)
            if left <= 0:
                yield leaf.index, torch.cat(outputs.pop(leaf.index)).cpu()
        size = min(left, path.room_for())


def _own(x: Tensor) -> Tensor:
    """The batch in a storage of its own: a copy of a view is a copy of all that it is a view of."""
    return x if x.untyped_storage().nbytes() == x.nbytes else x.clone()


@dataclass
class Path:
    """What is kept on the way from the root of the trie to the current leaf: (depth, one state per batch, bytes).

    `peak` is the most that was ever kept (bytes), `refused` whether something did not fit into `limit` (bytes).
    """

    limit: int
    kept: list[tuple[int, list[Any], int]] = field(default_factory=list)
    peak: int = 0
    refused: bool = False

    def keep(self, depth: int, states: list[Any]) -> bool:
        """Keep the states if there is room, the inputs (depth 0) in any case."""
        size = state_bytes(states)
        used = size + sum(n for _, _, n in self.kept)
        if depth and used > self.limit:
            self.refused = True
            return False
        self.kept.append((depth, states, size))
        self.peak = max(self.peak, used)
        return True

    def back_to(self, depth: int) -> tuple[int, list[Any]]:
        """Forget what lies deeper; what is kept deepest then, and its depth."""
        while self.kept[-1][0] > depth:
            self.kept.pop()
        return self.kept[-1][:2]

    def room_for(self) -> int:
        """How many times as many batches could be kept, from what this walk took."""
        return 1 if self.refused else max(1, self.limit // max(1, self.peak))


@torch.inference_mode()
def _run(supernet: Supernet, leaf: Leaf, path: Path) -> list[Tensor]:
    """Outputs of a net for every batch, from the deepest kept states on; keeps those that later nets begin with.

    Kept states are never handed to a stage, which may change them in place, but copies of them.
    """
    depth, states = path.back_to(leaf.shared)
    kept = True
    with supernet.filled(leaf.net.eval(), leaf.architecture) as net:
        stages = stages_of(net) or []
        for stop in (*(d for d in leaf.branches if d > depth), len(stages)):
            part = stages[depth:stop]
            states = [reduce(lambda s, stage: stage(s), part, deepcopy(s) if kept else s) for s in states]
            depth, kept = stop, stop in leaf.branches and path.keep(stop, states)
    return states


def state_bytes(state: object) -> int:
    """Memory of the tensors in a state, made of tensors, collections and objects with attributes; views count once."""
    storages: dict[int, int] = {}
    todo, seen = [state], set[int]()
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif isinstance(thing, Mapping):
            todo += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset):
            todo += thing
        elif not isinstance(thing, type):
            todo += getattr(thing, "__dict__", {}).values()
    return sum(storages.values())
