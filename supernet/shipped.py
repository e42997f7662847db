"""A subnet as it will be shipped: extracted, its running statistics measured, its quantization policy applied."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import NotFinite
from ..search_space.architecture import GeneValue
from ..search_space.inputs import map_tensors
from ..search_space.quantization import policy_of
from ..tasks import Task
from .quantize.learned import Steps
from .quantize.post_training import SAMPLES, quantize
from .quantize.quantized import Quantized
from .quantize.settings import PostTraining
from .statistics import placed
from .store import Supernet


def as_shipped(supernet: Supernet, task: Task, architecture: Mapping[str, GeneValue]) -> nn.Module:
    """A module to evaluate; a quantized one computes in floats what integers would give.

    One that cannot be quantized, for its numbers are not finite, gives NaN.
    """
    module = supernet.extract(architecture, task)
    try:
        return quantized_for(module, task, steps=supernet.steps).module if policy_of(module) else module
    except NotFinite:
        return AllNaN(module)


class AllNaN(nn.Module):
    """NaN in the place of each floating output of `net`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = self.net(*args, **kwargs)
        return map_tensors(lambda t: torch.full_like(t, torch.nan) if t.is_floating_point() else t, outputs)


def quantized_for(
    module: nn.Module, task: Task, settings: PostTraining | None = None, steps: Steps | None = None
) -> Quantized:
    """The module with its policy, calibrated on the first inputs of the training split in its order of epoch 0."""
    inputs = placed(task.calibration_inputs(SAMPLES), module)
    here = next(module.parameters()).device
    return quantize(module, inputs, settings, steps and {key: step.to(here) for key, step in steps.items()})
