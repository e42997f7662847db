"""Quality of subnets with the weights they inherit."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..search_space.architecture import GeneValue
from ..tasks import Split, Task
from .shipped import as_shipped
from .store import Supernet

EVALUATION_BATCH = 256
"""Samples at a time: activations of 128 to 512 stay in the caches of CPUs; 64 and 1,024 are slower."""


@torch.inference_mode()
def outputs_of(model: Callable[[Tensor], Any], split: Split) -> tuple[Tensor, Tensor]:
    """All outputs of `model` on a split, and the targets."""
    batches = [(model(x), y) for x, y in split.batches(EVALUATION_BATCH)]
    return torch.cat([outputs for outputs, _ in batches]), torch.cat([y for _, y in batches])


def evaluate(model: nn.Module, task: Task, split: str = "validation") -> float:
    """The task's metric of a plain module (an extracted net) on "train", "validation" or "test"; in evaluation mode."""
    return _scored(model, task, split, task.metric)


def evaluate_subnet(
    supernet: Supernet, task: Task, architecture: Mapping[str, GeneValue], split: str = "validation"
) -> float:
    """The task's metric of a subnet with inherited weights, and with its quantization policy if it has one."""
    return evaluate(as_shipped(supernet, task, architecture), task, split)


def loss_of_subnet(supernet: Supernet, task: Task, architecture: Mapping[str, GeneValue]) -> float:
    """The task's loss on the validation split: it tells nets apart that the metric does not."""
    model = as_shipped(supernet, task, architecture)
    return _scored(model, task, "validation", lambda outputs, targets: float(task.loss(outputs, targets).mean()))


def _scored(model: nn.Module, task: Task, split: str, score: Callable[[Tensor, Tensor], float]) -> float:
    was_training = model.training
    model.eval()
    try:
        return score(*outputs_of(model, getattr(task, split)))
    finally:
        model.train(was_training)
