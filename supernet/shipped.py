"""A subnet as it will be shipped: extracted, its running statistics measured, its quantization policy applied."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..search_space.architecture import GeneValue
from ..search_space.quantization import policy_of
from ..tasks import Task
from .quantize.learned import Steps
from .quantize.post_training import SAMPLES, quantize
from .quantize.quantized import Quantized
from .quantize.settings import PostTraining
from .store import Supernet


def as_shipped(supernet: Supernet, task: Task, architecture: Mapping[str, GeneValue]) -> nn.Module:
    """A module to evaluate; a quantized one computes in floats what integers would give."""
    module = supernet.extract(architecture, task)
    return quantized_for(module, task, steps=supernet.steps).twin if policy_of(module) else module


def quantized_for(
    module: nn.Module, task: Task, settings: PostTraining | None = None, steps: Steps | None = None
) -> Quantized:
    """The module with its policy, calibrated on the first inputs of the training split in its order of epoch 0."""
    return quantize(module, calibration_inputs(task), settings, steps)


def calibration_inputs(task: Task, samples: int = SAMPLES) -> Tensor:
    return task.batch(0, min(samples, len(task.train)), seed=0, augment=False)[0]
