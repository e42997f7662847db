"""Running statistics (BatchNorm) belong to one net: an extracted subnet needs its own."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..search_space.inputs import Inputs, call, map_tensors
from ..tasks import Task

BATCHES, BATCH_SIZE = 8, 256
ROUNDS = 8
"""Over the batches, for statistics that move by a rate of the module's own: of 0.1, a start is forgotten after 64."""


def with_statistics(module: nn.Module) -> list[_NormBase]:
    """The layers of `module` that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _NormBase) and m.running_mean is not None]


def calibrated(module: nn.Module, task: Task, others: Collection[str] = ()) -> nn.Module:
    """The module with running statistics measured on the first training inputs, in the order of epoch 0 of seed 0."""
    size = min(BATCH_SIZE, task.train.size or BATCH_SIZE)
    return recalibrate(module, lambda i: task.batch(i, size, seed=0, augment=False)[0], others)


@torch.no_grad()
def recalibrate(module: nn.Module, batch: Callable[[int], Inputs], others: Collection[str] = ()) -> nn.Module:
    """Measure the running statistics anew as the mean over batches of inputs (BigNAS, Yu et al. 2020); weights stay.

    Only the layers that keep statistics run in training mode meanwhile; afterwards every layer is as it was.
    batch: the inputs of the batch of that index. others: names of further buffers that training moves (of norms that
        are not torch's, of spectral norms); their modules run in training mode too, and move them as they do.
    """
    norms = with_statistics(module)
    owners = dict.fromkeys(module.get_submodule(name.rpartition(".")[0]) for name in others)
    rest = [owner for owner in owners if owner not in norms]
    rounds = ROUNDS if rest else 1 if norms else 0
    with _measuring(norms, rest), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for index in (*range(BATCHES),) * rounds:
            call(module, placed(batch(index), module))
    return module


@contextmanager
def _measuring(norms: Sequence[_NormBase], others: Sequence[nn.Module]) -> Iterator[None]:
    """Let these layers move their statistics; norms forget them first, and keep the mean."""
    before = [(layer, layer.training) for layer in (*norms, *others)]
    rates = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_pre_hook(_Mean()) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    for layer, _ in before:
        layer.training = True  # of the layer alone: what it holds, such as a dropout, stays as it is
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training
        for norm, rate, hook in zip(norms, rates, hooks, strict=True):
            norm.momentum = rate
            hook.remove()


class _Mean:
    """Makes what a layer keeps the plain mean over its calls, by the momentum of the next one."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, layer: Any, _: object) -> None:
        self.calls += 1
        layer.momentum = 1 / self.calls  # `momentum=None` is that for BatchNorm, but stands still for InstanceNorm


def placed(inputs: Inputs, model: object) -> Any:
    """The inputs on the device of a module's parameters; floats of their precision."""
    like = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if like is None:
        return inputs

    def moved(x: Tensor) -> Tensor:
        floats = x.is_floating_point() and like.is_floating_point()
        return x.to(like.device, like.dtype if floats else x.dtype)

    return map_tensors(moved, inputs)
