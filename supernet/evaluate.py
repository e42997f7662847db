"""Quality of subnets with the weights they inherit."""

from collections.abc import Callable, Mapping
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from ..search_space.architecture import GeneValue
from ..tasks import Split, Task
from .shipped import as_shipped
from .statistics import placed
from .store import Supernet

Metric = Callable[[Tensor, Tensor], float]

EVALUATION_BATCH = 256
"""Samples at a time: activations of 128 to 512 stay in the caches of CPUs; 64 and 1,024 are slower."""


@torch.inference_mode()
def outputs_of(model: Callable[[Tensor], Any], split: Split) -> tuple[Tensor, Tensor]:
    """All outputs of `model` on a split, and the targets; on the CPU."""
    batches = [(model(placed(x, model)), y) for x, y in split.batches(EVALUATION_BATCH)]
    return torch.cat([outputs for outputs, _ in batches]).cpu(), torch.cat([y for _, y in batches]).cpu()


def score(metric: Metric, outputs: Tensor, targets: Tensor) -> float:
    """The metric; NaN where outputs are not finite: of them no metric is to be believed (an argmax finds class 0)."""
    return metric(outputs, targets) if outputs.isfinite().all() else nan


def evaluate(model: nn.Module, task: Task, split: str = "validation") -> float:
    """The task's metric of a plain module (an extracted net) on "train", "validation" or "test"; in evaluation mode.

    NaN if an output is not finite.
    """
    return _scored(model, task, split, task.metric)


def evaluate_subnet(
    supernet: Supernet, task: Task, architecture: Mapping[str, GeneValue], split: str = "validation"
) -> float:
    """The task's metric of a subnet with inherited weights, and with its quantization policy if it has one.

    Running statistics are those that `supernet.extract(architecture, task)` measures. NaN if an output is not finite.
    """
    return evaluate(as_shipped(supernet, task, architecture), task, split)


def _scored(model: nn.Module, task: Task, split: str, metric: Metric) -> float:
    was_training = model.training
    model.eval()
    try:
        return score(metric, *outputs_of(model, getattr(task, split)))
    finally:
        model.train(was_training)
