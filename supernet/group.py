"""Processes that train one supernet together: each takes its samples of a batch, and they add up their gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils._pytree import tree_leaves

from ..errors import UserError
from ..search_space.inputs import map_tensors


@dataclass(frozen=True)
class Group:
    """This process's place among `size` processes of torch.distributed; one process alone needs none."""

    rank: int = 0
    size: int = 1

    def share(self, batch: Any) -> Any:
        """The samples of a batch that are this process's. Error: there are fewer than processes."""
        if self.size == 1:
            return batch
        own = part_of(batch, (self.rank, self.size))
        if not samples_in(own):
            raise UserError(
                f"{samples_in(batch)} samples cannot be divided among {self.size} processes; raise batch_size"
            )
        return own

    def weight(self, batch: Any) -> float:
        """The share of the batch's samples that are this process's."""
        return 1.0 if self.size == 1 else samples_in(part_of(batch, (self.rank, self.size))) / samples_in(batch)

    def mean(self, value: float) -> float:
        """Of this number over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor([value / self.size], device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        self.add_up([total])
        return float(total)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))


def samples_in(batch: Any) -> int:
    """The first dimension of the first tensor of a batch."""
    return next(len(t) for t in tree_leaves(batch) if isinstance(t, Tensor))


def part_of(batch: Any, part: tuple[int, int]) -> Any:
    """The i-th of n parts of the samples of a batch."""
    i, n = part
    return map_tensors(lambda t: t[len(t) * i // n : len(t) * (i + 1) // n], batch)
