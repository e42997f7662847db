"""What flows through a net on calibration data: the inputs of its parts, and which norms they come from."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import NotFinite
from ...search_space.inputs import Inputs, call, map_tensors, tensors_in
from .ranges import within_halves
from .softmax import sites, watching_softmax

MOST_ROWS = 512
"""Of the inputs of a part that are kept, evenly spread over the samples; of more than 256 channels `ROWS_PER_CHANNEL`
times as many: the Hessian of fewer rows than channels is singular."""
ROWS_PER_CHANNEL = 2
TOKENS = 1024
"""That a net is called with at a time: what it says of each may be as long as its vocabulary."""


@dataclass(eq=False)
class Traffic:
    """inputs: by part, (rows, channels) of all its calls: tokens, pixels and samples are rows. readers: by norm, the
    parts that it feeds straight, in the order of running. softmax: outputs of softmax, flat, by the module that has
    them rounded."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=dict)
    softmax: dict[str, Tensor] = field(default_factory=dict)


def batches_of(inputs: Inputs) -> list[Inputs]:
    """Samples of tokens a few at a time; others all at once."""
    first = tensors_in(inputs)[0]
    if first.is_floating_point() or first.dim() < 2:
        return [inputs]
    rows = max(1, TOKENS // first[0].numel())
    starts = range(0, len(first), rows)
    return [_rows_from(inputs, len(first), slice(start, start + rows)) for start in starts]


def _rows_from(inputs: Inputs, samples: int, rows: slice) -> Any:
    return map_tensors(lambda x: x[rows] if x.dim() and len(x) == samples else x, inputs)


@torch.no_grad()
def observe(net: nn.Module, inputs: Inputs, parts: Collection[str]) -> Traffic:
    """Run the net once on each sample. Errors: inputs of a part that are not finite; numbers of a part in fp16 beyond
    65,504."""
    traffic, norms = Traffic(), {name for name, m in net.named_modules() if name not in parts and _is_norm(m)}
    seen: dict[str, list[Tensor]] = {}
    made: dict[int, tuple[str, Tensor]] = {}  # holds the tensors, so that no other gets the identity of one
    kept: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}  # what several parts read is kept once
    batches = batches_of(inputs)

    def leaves(name: str, output: Any) -> None:
        if isinstance(output, Tensor):
            made[id(output)] = name, output

    def enters(name: str, x: Any) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return  # indices of an embedding
        maps = isinstance(net.get_submodule(name), nn.Conv1d | nn.Conv2d)
        if (id(x), maps) not in kept:
            kept[id(x), maps] = x, _rows(name, x.movedim(1, -1) if maps else x, len(batches))
        seen.setdefault(name, []).append(kept[id(x), maps][1])
        if id(x) in made and name not in (readers := traffic.readers.setdefault(made[id(x)][0], [])):
            readers.append(name)

    with _watching(net, norms, leaves, parts, enters), within_halves(net), watching_softmax(net, sites(net)) as outputs:
        for batch in batches:
            call(net, batch)
            made.clear()
            kept.clear()
    whole = {tuple(map(id, calls)): calls for calls in seen.values()}
    rows = {key: _spread(torch.cat(calls)) for key, calls in whole.items()}
    traffic.inputs = {name: rows[tuple(map(id, calls))] for name, calls in seen.items()}
    traffic.softmax = {name: torch.cat(calls) for name, calls in outputs.items()}
    return traffic


def answers_of(net: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The outputs of one call that are numbers, in order."""
    return [y for y in tensors_in(call(net, inputs)) if y.is_floating_point()]


@contextmanager
def _watching(net: nn.Module, norms: Any, leaves: Any, parts: Any, enters: Any) -> Iterator[None]:
    def after(name: str) -> Any:
        return lambda _, __, output: leaves(name, output)

    def before(name: str) -> Any:
        return lambda _, given: enters(name, given[0])

    handles = [net.get_submodule(name).register_forward_hook(after(name)) for name in norms]
    handles += [net.get_submodule(name).register_forward_pre_hook(before(name)) for name in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_norm(module: nn.Module) -> bool:
    """Whether it scales channels, and perhaps shifts them, and has no other parameter: LayerNorm, RMSNorm."""
    own = dict(module.named_parameters())
    return {"weight"} <= own.keys() <= {"weight", "bias"} and all(p.dim() == 1 for p in own.values())


def _rows(name: str, x: Tensor, batches: int) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    if not rows.isfinite().all():
        raise NotFinite(f"the calibration data give numbers at the input of {name} that are not finite")
    return _spread(rows, batches).clone()


def _spread(rows: Tensor, batches: int = 1) -> Tensor:
    """As many of them as are kept of each of so many batches."""
    most = -(-max(MOST_ROWS, ROWS_PER_CHANNEL * rows.shape[1]) // batches)
    return rows[:: -(-len(rows) // most)]
