"""One forward pass on the meta device, and the cost that its operators add up to."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.inputs import Inputs, call, map_tensors, tensors_in
from ...search_space.quantization import policy_of
from ...search_space.temporary import evaluating, filled, slots_of
from .flat import tensors_of
from .operators import Cost, bytes_per_element
from .tracer import Tracer
from .whole import Whole


def trace_cost(module: nn.Module, example: Inputs, precision: str = "fp32") -> Cost:
    """The cost of one call in eval mode, with tensors of `precision`.

    example: a tensor is the one argument, a sequence all arguments, a mapping all keywords.
    module: is left as it was: its tensors may be real, on the meta device, or some of each.
    A part that a quantization policy covers reads its weights, and its input, at the bits of its scheme.
    precision: of the other activations and weights; "w8a16": weights of 8 bits and activations of 16.
    Error: a forward that cannot run without data.

    >>> nas.trace_cost(net, task.example, "fp16").params
    1210
    """
    bytes_per_element(precision)  # refuses one that does not exist
    traced = trace(module, example, precision)
    tracer = traced.tracer
    params = sum(p.numel() for p in traced.parameters.values())
    weight_bytes = sum(map(tracer.bytes_of, (*traced.parameters.values(), *traced.buffers)))
    peak = tracer.peak_activation_bytes(traced.outputs)
    operators = tracer.key_values.ordered(tracer.rows)
    return Cost(operators, params, weight_bytes, peak, precision, tracer.key_values.bytes)


@dataclass(frozen=True)
class Trace:
    """What was seen of one forward pass: its kernels, and the tensors on the meta device that it ran with."""

    tracer: Tracer
    parameters: Mapping[str, Tensor]
    buffers: Sequence[Tensor]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


def trace(module: nn.Module, example: Inputs, precision: str) -> Trace:
    """The trace of one call; see `trace_cost`. Tied parameters have one name, the first.

    A forward that reads values of masks or indices (`mask.all()`) is given them; what it computes of these alone is
    then taken for a constant. Floats have no values.
    """
    try:
        return _trace(module, map_tensors(_meta, example), precision)
    except UserError:
        if all(t.is_meta or t.is_floating_point() for t in tensors_of(example)):
            raise
        with contextlib.suppress(UserError):
            return _trace(module, map_tensors(lambda t: _meta(t) if t.is_floating_point() else t, example), precision)
        raise


def reads_values(module: nn.Module, example: Inputs) -> bool:
    """Whether a forward needs the values of its inputs or parameters, as one that branches on them does."""
    try:
        _trace(module, map_tensors(_meta, example), "fp32")
    except UserError:
        return True
    return False


def _trace(module: nn.Module, example: Inputs, precision: str) -> Trace:
    inputs = tensors_of(example)
    parameters = {name: _meta(p) for name, p in module.named_parameters()}
    buffers = {name: _meta(b) for name, b in module.named_buffers()}
    names = {id(p): name for name, p in module.named_parameters()}
    schemes = [(parameters[names[id(module.get_submodule(n).weight)]], s) for n, s in policy_of(module).items()]
    values = {**parameters, **buffers}
    tracer = Tracer(precision, (*parameters.values(), *buffers.values()), inputs, schemes)
    with evaluating(module), filled(slots_of(module, values), values), torch.no_grad():
        outputs = _run(module, example, tracer)
    return Trace(tracer, parameters, list(buffers.values()), inputs, tensors_in(outputs))


def _meta(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.is_meta else torch.empty_like(tensor, device="meta", requires_grad=False)


def _run(module: nn.Module, inputs: Inputs, tracer: Tracer) -> Any:
    try:
        with Whole(tracer), tracer:
            return call(module, inputs)
    except Exception as error:
        reason = shorten(f"{type(error).__name__}: {error}", 160)
        raise UserError(
            f"the forward of {type(module).__name__} cannot be traced on the meta device: {reason}; it must accept the "
            "example's shape and must not read the values of tensors (.item(), boolean masks, `if tensor:`)"
        ) from error
