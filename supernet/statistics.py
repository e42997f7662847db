"""Running statistics (BatchNorm) belong to one net: an extracted subnet needs its own."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..search_space.architecture import GeneValue
from ..tasks import Task
from .store import Supernet

BATCHES, BATCH_SIZE = 8, 256


def with_statistics(module: nn.Module) -> list[_BatchNorm]:
    """The layers of `module` that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Measure the running statistics anew as the mean over `batches` of inputs (BigNAS, Yu et al. 2020); weights stay.

    Only the layers that keep statistics run in training mode meanwhile; afterwards every layer is as it was.
    """
    layers = with_statistics(module)
    before = [(layer, layer.training, layer.momentum) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
        layer.momentum = None  # a plain mean over the batches
    for inputs in batches if layers else ():
        module(inputs)
    for layer, training, momentum in before:
        layer.train(training)
        layer.momentum = momentum
    return module


def extract_for(supernet: Supernet, task: Task, architecture: Mapping[str, GeneValue]) -> nn.Module:
    """The extracted subnet, with running statistics of its own (over training inputs) where it keeps any."""
    module = supernet.extract(architecture)
    size = min(BATCH_SIZE, len(task.train))
    return recalibrate(module, (task.batch(i, size, seed=0, augment=False)[0] for i in range(BATCHES)))
