"""The loss of nets on a few training samples, to compare them by; of a net that is mostly another one, in part."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from ...search_space.adopted.space import AdoptedSpace
from ...search_space.architecture import GeneValue
from ...search_space.inputs import call
from ...search_space.temporary import evaluating
from ...tasks import Task
from ..saved import sha256_of_tensors
from ..statistics import placed
from ..store import Supernet

BATCH = 4


class Calibration:
    """Compares nets of a supernet on the first `samples` training samples (in the order of epoch 0 of seed 0).

    The layers of an adopted model before the first one that differs from those of `base` are not computed again: what
    they left is kept, `samples` times the size of a layer's output for each layer.
    """

    def __init__(self, supernet: Supernet, task: Task, samples: int = 16, batch: int = BATCH) -> None:
        self.supernet, self.task = supernet, task
        self.size = min(batch, samples, task.train.size or samples)
        self.batches = [task.batch(i, self.size, seed=0, augment=False) for i in range(-(-samples // self.size))]
        self._base: Mapping[str, GeneValue] | None = None
        self._left: list[dict[str, Any]] = []

    @cached_property
    def identity(self) -> str:
        """Of the samples and of the weights: losses are the same where it is."""
        weights = sha256_of_tensors(self.supernet.store.state_dict())
        samples = f"{len(self.batches)} x {self.size} samples of {self.task.name} {self.task.digest}"
        return f"{samples}, weights {weights[:16]}"

    def start_from(self, base: Mapping[str, GeneValue]) -> float:
        """Compute `base`, keep what its layers leave, and return its loss."""
        self._base, self._left = None, [{} for _ in self.batches]
        result = self._mean(base, record=True)
        self._base = base
        return result

    def loss(self, architecture: Mapping[str, GeneValue]) -> float:
        """The mean over the batches of the task's loss."""
        return self._mean(architecture, record=False)

    @torch.no_grad()
    def _mean(self, architecture: Mapping[str, GeneValue], record: bool) -> float:
        supernet, losses = self.supernet, list[float]()
        first = self._first_change(architecture)
        with evaluating(supernet), supernet.filled(supernet.skeleton(architecture), architecture) as net:
            layers = self._layers(net)
            for index, (inputs, targets) in enumerate(self.batches):
                left = self._left[index] if self._left else {}
                with _recording(layers, left) if record else _recalled(layers, left, first):
                    prediction = self.task.prediction(call(net, placed(inputs, supernet)))
                losses.append(float(self.task.loss_of(prediction, self.task.targets_for(prediction, targets))))
        return sum(losses) / len(losses)

    def _layers(self, net: nn.Module) -> Mapping[str, nn.Module]:
        """The layers by name; none, where the model is no adopted one of one stack of layers."""
        function = self.supernet.space.function
        stacks = function.stacks if isinstance(function, AdoptedSpace) else ()
        return dict(stacks[0].layers_of(net).named_children()) if len(stacks) == 1 else {}

    def _first_change(self, architecture: Mapping[str, GeneValue]) -> int:
        """The number of the first layer that is another one than in `base`."""
        if self._base is None:
            return 0
        base, genes = self._base, self.supernet.space.genes
        changed = [name for name in {*base, *architecture} if base.get(name) != architecture.get(name)]
        numbers = [part for name in changed for part in genes[name].path[1:2] if isinstance(part, int)]
        return min(numbers, default=0) if len(numbers) == len(changed) else 0


@contextmanager
def _recording(layers: Mapping[str, nn.Module], left: dict[str, Any]) -> Iterator[None]:
    """Keep what each layer returns."""

    def keep(name: str, *call: Any) -> None:
        left[name] = call[-1]

    hooks = [layer.register_forward_hook(partial(keep, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _returned(result: Any, *args: Any, **named: Any) -> Any:
    """What was left, whatever the layer is called with."""
    del args, named
    return result


@contextmanager
def _recalled(layers: Mapping[str, nn.Module], left: Mapping[str, Any], first: int) -> Iterator[None]:
    """Layers before `first` return what they left, without computing it."""
    skipped = [layer for name, layer in layers.items() if int(name) < first and name in left]
    for name, layer in layers.items():
        if layer in skipped:
            layer.forward = partial(_returned, left[name])
    try:
        yield
    finally:
        for layer in skipped:
            del layer.forward
