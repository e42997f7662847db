"""What the readers of a shared axis see: how much each entry of the axis matters to them, to the loss, or to both."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...search_space.axes import Axis, Member
from ...search_space.layout import Layout, segments_of
from ..store import Supernet

METHODS = ("activation", "energy", "taylor", "fisher")
"""activation: mean |x| times the norm of what reads x (Wanda's metric with another mean, Sun et al. 2023; Minitron's).
energy: the root mean square of x in its place, Wanda's own. taylor: mean |x dL/dx|, the first order of the loss when
the entry is left out (Molchanov et al. 2019; LLM-Pruner, Ma et al. 2023). fisher: mean (x dL/dx)^2, its second order
with the empirical Fisher information as the diagonal of the Hessian (Theis et al. 2018)."""
Scores = dict[str, Tensor]
"""By method: one score for each block of an axis; what matters least is smallest."""


@dataclass(frozen=True)
class Reader:
    """A linear layer or convolution that takes an axis in.

    channel: the dimension of its input that holds the axis. entries: for every channel the block of the axis that it
    belongs to, -1 for none. norms: of what reads each channel.
    """

    module: nn.Module
    channel: int
    entries: Tensor
    norms: Tensor


def readers_of(net: nn.Module, axis: Axis, layouts: Mapping[str, Layout]) -> list[Reader]:
    """Those of the largest net whose weight has the axis on its input side."""
    results = []
    for member in axis.members:
        path, _, local = member.parameter.rpartition(".")
        module = net.get_submodule(path)
        if local == "weight" and _input_side(module) == member.dim:
            weight = module.get_parameter(local).detach()
            others = [dim for dim in range(weight.dim()) if dim != member.dim]
            channel = 1 if isinstance(module, nn.modules.conv._ConvNd) else -1
            entries = _entries(layouts[member.parameter], member, axis)
            results.append(Reader(module, channel, entries, weight.norm(dim=others)))
    return results


def _input_side(module: nn.Module) -> int | None:
    """The dimension of the weight that inputs are multiplied along; None: of no module that is known."""
    if isinstance(module, nn.Linear):
        return 1
    if isinstance(module, nn.modules.conv._ConvNd):
        return None if module.groups > 1 else 0 if module.transposed else 1
    return 0 if type(module).__name__ == "Conv1D" else None  # of transformers: a linear layer, transposed


def _entries(layout: Layout, member: Member, axis: Axis) -> Tensor:
    """The block of the axis that each entry of a dimension belongs to."""
    parts, passed = [], 0
    for factors in segments_of(layout[member.dim]):
        part = torch.full(factors, -1)
        if passed <= member.factor < passed + len(factors):
            at = member.factor - passed
            shape = [-1 if i == at else 1 for i in range(len(factors))]
            part = (torch.arange(axis.size) // axis.unit).reshape(shape).expand(factors)
        parts.append(part.flatten())
        passed += len(factors)
    return torch.cat(parts)


@contextmanager
def read(supernet: Supernet, axes: Sequence[Axis]) -> Iterator[tuple[nn.Module, list[Scores]]]:
    """The largest net, whose forward and backward passes add to the scores of every axis meanwhile.

    An axis without a known reader has no scores.
    """
    net = supernet.extract(supernet.space.largest).requires_grad_(False)
    scores: list[Scores] = [{} for _ in axes]
    hooks = []
    for axis, own in zip(axes, scores, strict=True):
        for reader in readers_of(net, axis, supernet.layouts):
            own |= {method: torch.zeros(axis.size // axis.unit, dtype=torch.float64) for method in METHODS}
            hooks.append(reader.module.register_forward_pre_hook(partial(_see, reader, own)))
    try:
        yield net, scores
    finally:
        for hook in hooks:
            hook.remove()


def _see(reader: Reader, scores: Scores, _: nn.Module, inputs: tuple[Any, ...]) -> None:
    x: Tensor = inputs[0]
    if torch.is_grad_enabled():
        if not x.requires_grad:
            x.requires_grad_()
        x.register_hook(partial(_add, reader, scores, x.detach()))  # type: ignore[no-untyped-call]


def _add(reader: Reader, scores: Scores, x: Tensor, gradient: Tensor) -> None:
    """Shapes: `x` and its gradient with any dimensions, one of them the reader's channels; rows are all others."""
    rows, slopes = (t.movedim(reader.channel, -1).flatten(0, -2).float() for t in (x, gradient))
    used = reader.entries >= 0
    blocks, count = reader.entries[used], len(scores["activation"])
    seen = {"activation": rows.abs().mean(0) * reader.norms, "energy": rows.square().mean(0) * reader.norms.square()}
    for method, values in seen.items():
        scores[method].index_add_(0, blocks, values[used].double())
    effect = rows.new_zeros(len(rows), count).index_add_(1, blocks, (rows * slopes)[:, used])
    scores["taylor"] += effect.abs().sum(0)
    scores["fisher"] += effect.square().sum(0)
