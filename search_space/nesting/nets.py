"""Two nets side by side: the same random values in both, and what a run of each shows."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..architecture import Architecture
from ..buffers import buffer_layouts
from ..corner import corner, fits
from ..inputs import Inputs, call, map_tensors, tensors_in
from ..layout import Layout
from ..probe import Probed
from ..temporary import unfused
from .neutral import Neutral

Values = Mapping[str, Tensor]
MOST_BUILT = 8
PLAIN = (dict, OrderedDict, list, set)
"""Containers that are copied by their own method, ten times as fast as by `copy`."""


State = list[tuple[dict[str, Any], dict[str, Any]]]
"""The attributes of every submodule, and what they were."""


@dataclass(frozen=True)
class Net:
    """One architecture, built: its module for evaluation, the layouts of its parameters, the values of its buffers.

    built: its attributes as they were then: a call may leave caches in them (of position biases, say).
    """

    architecture: Architecture
    module: nn.Module
    layouts: Mapping[str, Layout]
    constants: Values
    built: State

    def buffer_layout(self, name: str) -> Layout:
        """The layout of a buffer; one that state dicts do not hold has an axis for each dimension."""
        plain = tuple((n,) for n in self.constants[name].shape)
        return buffer_layouts(self.module, self.layouts).get(name, plain)

    @property
    def classes(self) -> dict[str, type[nn.Module]]:
        """The class of every submodule by its name."""
        return {name: type(module) for name, module in self.module.named_modules()}


class Nets:
    """Nets of a space in one number format, each built once as long as it is among the last ones."""

    def __init__(self, space: Probed, dtype: torch.dtype) -> None:
        self.space, self.dtype = space, dtype
        self.values = lru_cache(maxsize=2)(random_values)  # most steps have the same large net
        self._built: OrderedDict[Architecture, Net] = OrderedDict()

    def __getitem__(self, architecture: Architecture) -> Net:
        if architecture not in self._built:
            self._built[architecture] = self._build(architecture)
            if len(self._built) > MOST_BUILT:
                self._built.popitem(last=False)
        self._built.move_to_end(architecture)
        return self._built[architecture]

    def _build(self, architecture: Architecture) -> Net:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.space.build(architecture).eval()
        module = module.double() if self.dtype == torch.float64 else module.float()  # complex parameters stay complex
        constants = {
            name: buffer.detach().clone(memory_format=torch.contiguous_format)
            for name, buffer in module.named_buffers()
        }
        return Net(architecture, module, self.space.layouts(module), constants, _state(module))


def random_values(module: nn.Module, seed: int, attempt: int, positive: bool) -> dict[str, Tensor]:
    """A value for every parameter: matrices keep the scale of their inputs; later attempts give smaller ones."""
    generator = torch.Generator().manual_seed(2 * seed + attempt)
    values = {}
    for name, p in module.named_parameters():
        scale = (0.5 if p.dim() < 2 else (p[0].numel() or 1) ** -0.5) * 0.3**attempt
        values[name] = torch.randn(p.shape, generator=generator, dtype=p.dtype) * scale
        if positive:
            values[name] = values[name].abs() + 0.1 * scale
    return values


def with_shared_constants(small: Net, large: Net) -> tuple[Net, Net]:
    """The nets with the corners of the large one's constants in the small one, and the rest of them zero.

    A table of positions or frequencies is computed from the width and differs between the nets; their weights do not
    depend on that. Integers (indices) stay.
    """
    mine, theirs = dict(small.constants), dict(large.constants)
    for name, buffer in small.constants.items():
        other = theirs.get(name)
        if other is None or not buffer.is_floating_point():
            continue
        layouts = [net.buffer_layout(name) for net in (small, large)]
        if fits(*layouts):
            part, theirs[name] = corner(*layouts), torch.zeros_like(other)
            mine[name] = part.of(other)
            part.write(mine[name], theirs[name])
    return replace(small, constants=mine), replace(large, constants=theirs)


@dataclass
class Run:
    """What one call showed: all real-valued outputs, those of layers in the order of the calls, what was raised."""

    outputs: list[Tensor]
    trace: Neutral
    calls: list[tuple[str, Tensor]] = field(default_factory=list)
    failure: str = ""

    @property
    def unreadable(self) -> bool:
        """Whether there is nothing to compare: no real-valued output, or one that is not a number."""
        return not self.outputs or any(bool(t.isnan().any()) for t in self.outputs)


Hook = Callable[..., Any]


@torch.no_grad()
def run(
    net: Net, values: Values, inputs: Inputs, scalars: Sequence[float] | None = None, skip: Sequence[str] = ()
) -> Run:
    """Outputs of the net with these values; modules in `skip` hand on their input."""
    for attributes, built in net.built:
        attributes.clear()
        attributes.update(_copied(built))
    for name, p in net.module.named_parameters():
        p.copy_(values[name])
    for name, b in net.module.named_buffers():
        if name in net.constants and net.constants[name].shape == b.shape:  # a call may leave others behind
            b.copy_(net.constants[name])
    result = Run([], Neutral(scalars))
    with ExitStack() as stack:
        for name, module in net.module.named_modules():
            if name in skip:
                stack.enter_context(module.register_forward_hook(_hand_on, with_kwargs=True))
            if next(module.children(), None) is None or next(module.parameters(recurse=False), None) is not None:
                stack.enter_context(module.register_forward_hook(_recorder(name, result.calls)))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(0)
        stack.enter_context(sdpa_kernel([SDPBackend.MATH]))
        stack.enter_context(unfused())
        stack.enter_context(result.trace)
        try:
            outputs = call(net.module, map_tensors(torch.clone, inputs))
        except Exception as error:  # whatever the user's module raises
            return replace(result, failure=f"{type(error).__name__}: {error}")
    result.outputs = [t for t in tensors_in(outputs) if t.is_floating_point() or t.is_complex()]
    return result


def _state(module: nn.Module) -> State:
    plain = (m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule))
    return [(vars(m), _copied(vars(m))) for m in plain]


def _copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Containers are copied, so that what a call adds to them is not there the next time."""
    plain = {n: v.copy() if type(v) in PLAIN else v for n, v in attributes.items()}
    return plain | {n: copy(v) for n, v in plain.items() if isinstance(v, (dict, list, set)) and type(v) not in PLAIN}


def _recorder(name: str, calls: list[tuple[str, Tensor]]) -> Hook:
    def record(_module: nn.Module, _args: Any, output: Any) -> None:
        calls.extend((name, t) for t in tensors_in(output)[:1])

    return record


def _hand_on(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    """The first input in the place of the first output of the same shape."""
    given = [t for t in (*tensors_in(args), *tensors_in(kwargs)) if t.is_floating_point()]
    if isinstance(output, Tensor):
        return given[0] if given and given[0].shape == output.shape else torch.zeros_like(output)
    if isinstance(output, tuple) and output:
        return (_hand_on(module, args, kwargs, output[0]), *output[1:])
    return output


def difference(small: Tensor, large: Tensor) -> float:
    """Largest difference, relative to the scale of `small`, from the part of `large` that answers to it.

    Where an output carries the width that is its leading corner, or what is left without the zeros.
    """
    if small.shape == large.shape:
        return _relative(small, large)
    if small.dim() != large.dim() or any(a > b for a, b in zip(small.shape, large.shape, strict=True)):
        return float("inf")
    corner, rest = large[tuple(slice(0, n) for n in small.shape)], large
    for dim, (a, b) in enumerate(zip(small.shape, large.shape, strict=True)):
        if a != b:
            lines = rest.transpose(0, dim).flatten(1).ne(0).any(1)
            rest = rest.index_select(dim, lines.nonzero().flatten())
    results = [_relative(small, part) for part in (corner, rest) if part.shape == small.shape]
    return min(results)


def _relative(a: Tensor, b: Tensor) -> float:
    if a.numel() == 0:
        return 0.0
    scale = torch.where(a.isfinite(), a, 0).abs().max().clamp_min(1e-8)
    gap = torch.where(a == b, 0, (a - b).abs()) / scale
    return float("inf") if bool(gap.isnan().any()) else float(gap.max())
