"""Which way of quantizing suits a part of a net, by the error that the loss feels (Q-HyViT, Lee et al. 2024).

The error of a part is (y' - y)^2 times the diagonal of the loss's Hessian at y, its output or that of its block. Where
maps of a convolution become tokens or tokens maps, the parts on both sides are one block (a bridge): the error of the
first counts at the outputs of those that read what it became.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...search_space.inputs import Inputs, call
from .quantized import Part, decoded
from .traffic import answers_of

DRAWS = 4
"""Labels that are drawn for each sample."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
Option = TypeVar("Option")


@dataclass(frozen=True, eq=False)
class Felt:
    """A part on the calibration data. given: the very tensor that came in; x: what it held; y: what the part made of it
    without rounding; importance: squared gradients of the loss at y, the mean over draws."""

    given: Tensor
    x: Tensor
    y: Tensor
    importance: Tensor

    def error(self, outputs: Tensor) -> float:
        """Mean of importance * (outputs - y)^2."""
        return float(((outputs - self.y).square() * self.importance).mean())

    def channels(self, module: nn.Module) -> Tensor:
        """The mean importance of each output channel (out,)."""
        return self.importance.movedim(1 if isinstance(module, CONVOLUTIONS) else -1, 0).flatten(1).mean(1)


@dataclass(eq=False)
class Blocks:
    """A net on the calibration data, its parts in the order of running."""

    net: nn.Module
    inputs: Inputs
    felt: dict[str, Felt] = field(default_factory=dict)

    @torch.no_grad()
    def error(self, name: str, part: Part) -> float:
        """What the loss feels of this part, all others being floats."""
        ends = self.bridge(name)
        if not ends:
            return self.felt[name].error(_alone(self.net.get_submodule(name), part, self.felt[name].x))
        outputs = _until(self.net, self.inputs, {name: part}, ends)
        return sum(self.felt[end].error(outputs[end]) for end in ends)

    def bridge(self, name: str) -> list[str]:
        """Of a part that is followed by one of another layout: that one, and those that read the same. Else nothing."""
        order = list(self.felt)
        after = order[order.index(name) + 1 :]
        if not after or _on_maps(self.net, name) == _on_maps(self.net, after[0]):
            return []
        return [end for end in after if self.felt[end].given is self.felt[after[0]].given]


def _on_maps(net: nn.Module, name: str) -> bool:
    return isinstance(net.get_submodule(name), CONVOLUTIONS)


def feel(net: nn.Module, inputs: Inputs, names: Sequence[str]) -> Blocks:
    """Run the net forwards and backwards. The Hessian's diagonal is Fisher's: labels are drawn from the net's answers.

    Parts that are not called, or that take indices, are left out. Where no gradient arrives, all outputs count alike.
    """
    seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def after(name: str, _: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> Tensor:
        if not y.requires_grad:
            y.requires_grad_()
        if given[0].is_floating_point() and name not in seen:
            seen[name] = given[0], given[0].detach().clone(), y
        return y.clone()  # which what follows may change in place

    with torch.enable_grad(), _hooked(net, {name: partial(after, name) for name in names}):
        answers = [y.reshape(-1, y.shape[-1]) for y in answers_of(net, inputs) if y.dim() and y.requires_grad]
        outputs = [y for *_, y in seen.values()]
        importance = [torch.zeros_like(y) for y in outputs]
        for loss in _losses(answers) if answers else ():
            gradients = torch.autograd.grad(loss, outputs, retain_graph=True, allow_unused=True)
            importance = [
                s if g is None else s + g.square() / DRAWS for s, g in zip(importance, gradients, strict=True)
            ]
    felt = {
        name: Felt(given, x, y.detach(), weight if weight.any() else torch.ones_like(weight))
        for (name, (given, x, y)), weight in zip(seen.items(), importance, strict=True)
    }
    return Blocks(net, inputs, felt)


def _losses(answers: Sequence[Tensor]) -> Iterator[Tensor]:
    """Cross-entropy with labels (rows,) that are drawn from the answers, each (rows, classes); their sum."""
    generators = {y.device: torch.Generator(y.device).manual_seed(0) for y in answers}

    def loss(y: Tensor) -> Tensor:
        labels = torch.multinomial(y.detach().softmax(-1), 1, generator=generators[y.device]).squeeze(1)
        return F.cross_entropy(y, labels, reduction="sum")

    for _ in range(DRAWS):
        yield torch.stack([loss(y) for y in answers]).sum()


def _alone(module: Any, part: Part, x: Tensor) -> Tensor:
    """What the module gives with a part's weight and rounding; without its hooks."""
    rounded, own = x if part.activation is None else part.activation(x), module.weight.data
    module.weight.data = decoded(part, own)
    try:
        y: Tensor = module.forward(rounded)
    finally:
        module.weight.data = own
    return y


class _Reached(Exception):
    """All that was waited for has run."""


def _until(net: nn.Module, inputs: Inputs, parts: Mapping[str, Part], ends: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of `ends` with these parts in place of their modules; what comes after the last is not run."""
    outputs: dict[str, Tensor] = {}

    def stand_in(part: Part, module: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
        return _alone(module, part, given[0])

    def end(name: str, _: nn.Module, __: tuple[Tensor, ...], y: Tensor) -> None:
        outputs[name] = y.clone()
        if len(outputs) == len(ends):
            raise _Reached

    hooks: dict[str, Any] = {name: partial(stand_in, part) for name, part in parts.items()}
    with _hooked(net, hooks | {name: partial(end, name) for name in ends}), suppress(_Reached):
        call(net, inputs)
    return outputs


@contextmanager
def _hooked(net: nn.Module, hooks: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    handles = [net.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def choose(options: Sequence[Option], given: Option, error: Callable[[Option], float], slack: float = 0.0) -> Option:
    """The first option, they go cheapest first, whose error is at most (1 + slack) times the least of all, and not
    above that of `given`; `given` is one more option, the last."""
    errors = [(option, error(option)) for option in (*options, given)]
    limit = min((1 + slack) * min(e for _, e in errors), errors[-1][1])
    return next(option for option, e in errors if e <= limit)
