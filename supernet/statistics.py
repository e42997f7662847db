"""Running statistics (BatchNorm) belong to one net: an extracted subnet needs its own."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..tasks import Task

BATCHES, BATCH_SIZE = 8, 256


def with_statistics(module: nn.Module) -> list[_NormBase]:
    """The layers of `module` that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _NormBase) and m.running_mean is not None]


def calibrated(module: nn.Module, task: Task) -> nn.Module:
    """The module with running statistics measured on the first training inputs, in the order of epoch 0 of seed 0."""
    size = min(BATCH_SIZE, len(task.train))
    return recalibrate(module, (task.batch(i, size, seed=0, augment=False)[0] for i in range(BATCHES)))


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Measure the running statistics anew as the mean over `batches` of inputs (BigNAS, Yu et al. 2020); weights stay.

    Only the layers that keep statistics run in training mode meanwhile; afterwards every layer is as it was.
    """
    layers = with_statistics(module)
    before = [(layer, layer.training, layer.momentum) for layer in layers]
    hooks = [layer.register_forward_pre_hook(_Mean()) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.training = True  # of the layer alone: what it holds, such as a dropout, stays as it is
    for inputs in batches if layers else ():
        module(placed(inputs, module))
    for hook in hooks:
        hook.remove()
    for layer, training, momentum in before:
        layer.training, layer.momentum = training, momentum
    return module


class _Mean:
    """Makes what a layer keeps the plain mean over its calls, by the momentum of the next one."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, layer: nn.Module, _: object) -> None:
        self.calls += 1
        layer.momentum = 1 / self.calls  # `momentum=None` is that for BatchNorm, but stands still for InstanceNorm


def placed(inputs: Tensor, module: nn.Module) -> Tensor:
    """The inputs on the device of the module's parameters; floats of their precision."""
    like = next(module.parameters(), None)
    if like is None:
        return inputs
    floats = inputs.is_floating_point() and like.is_floating_point()
    return inputs.to(like.device, like.dtype if floats else inputs.dtype)
