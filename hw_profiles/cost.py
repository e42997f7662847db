"""The cost of a module: FLOPs, bytes, kernels, parameters and memory, by tracing its forward on the meta device.

Nothing is computed and nothing is allocated: a net of any size is traced in milliseconds, on any machine.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from textwrap import shorten
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..errors import UserError, unknown
from .operators import KINDS, Kind, OperatorCost
from .tracer import Tracer, Whole

__all__ = ["KINDS", "PRECISION_BYTES", "Cost", "Kind", "OperatorCost", "fused", "trace_cost"]

PRECISION_BYTES: Mapping[str, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """What one forward pass does, kernel by kernel, in the order of execution."""

    operators: tuple[OperatorCost, ...] = field(repr=False)
    params: int = 0
    weight_bytes: float = 0.0
    """Parameters (tied ones once) and buffers."""
    peak_activation_bytes: float = 0.0
    """The largest set of activations alive at once, weights apart."""
    precision: str = "fp32"

    @classmethod
    def from_operators(
        cls,
        rows: Iterable[OperatorCost | Mapping[str, Any]],
        *,
        params: int = 0,
        precision: str = "fp32",
        peak_activation_bytes: float = 0.0,
    ) -> Self:
        """A cost from a plain table (a published trace): rows with name, kind, flops, bytes_read, bytes_written."""
        operators = tuple(row if isinstance(row, OperatorCost) else OperatorCost(**row) for row in rows)
        for row in operators:
            if row.kind not in KINDS:
                raise unknown("operator kind", row.kind, KINDS)
        return cls(operators, params, params * bytes_per_element(precision), peak_activation_bytes, precision)

    @property
    def flops(self) -> float:
        return sum(op.flops for op in self.operators)

    @property
    def bytes(self) -> float:
        """Traffic: read (weights included) and written."""
        return sum(op.bytes for op in self.operators)

    @property
    def kernels(self) -> int:
        return len(self.operators)

    @property
    def memory_bytes(self) -> float:
        """What inference holds: weights and the peak of the activations."""
        return self.weight_bytes + self.peak_activation_bytes

    def by_kind(self) -> dict[Kind, OperatorCost]:
        """The sum over the kernels of each kind that occurs."""
        sums: dict[Kind, OperatorCost] = {}
        for op in self.operators:
            sums[op.kind] = _add(sums[op.kind], op) if op.kind in sums else OperatorCost(op.kind, **_numbers(op))
        return sums


def _numbers(op: OperatorCost) -> dict[str, Any]:
    return {k: v for k, v in asdict(op).items() if k != "name"}


def _add(a: OperatorCost, b: OperatorCost) -> OperatorCost:
    read, written = a.bytes_read + b.bytes_read, a.bytes_written + b.bytes_written
    return OperatorCost(a.name, a.kind, a.flops + b.flops, read, written)


def bytes_per_element(precision: str) -> int:
    if precision not in PRECISION_BYTES:
        raise unknown("precision", precision, PRECISION_BYTES)
    return PRECISION_BYTES[precision]


def trace_cost(module: nn.Module, example: Tensor | Sequence[Tensor], precision: str = "fp32") -> Cost:
    """The cost of `module(example)` (several arguments: a sequence), in eval mode, with tensors of `precision`.

    The module is left as it was: its tensors may be real, on the meta device, or some of each. UserError if the
    forward cannot run without data.
    """
    width = bytes_per_element(precision)
    arguments = tuple(_meta(t) for t in ([example] if isinstance(example, Tensor) else example))
    parameters = {id(p): _meta(p) for p in module.parameters()}
    buffers = {id(b): _meta(b) for b in module.buffers()}
    tracer = Tracer(width, (*parameters.values(), *buffers.values()), arguments)
    with _evaluating(module), _swapped(module, {**parameters, **buffers}), torch.no_grad():
        outputs = _run(module, arguments, tracer)
    params = sum(p.numel() for p in parameters.values())
    weight_bytes = params * width + sum(map(tracer.bytes_of, buffers.values()))
    peak = tracer.peak_activation_bytes(t for t in tree_leaves(outputs) if isinstance(t, Tensor))
    return Cost(tuple(tracer.rows), params, weight_bytes, peak, precision)


def _meta(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.is_meta else torch.empty_like(tensor, device="meta", requires_grad=False)


def _run(module: nn.Module, arguments: tuple[Tensor, ...], tracer: Tracer) -> Any:
    try:
        with Whole(tracer), tracer:
            return module(*arguments)
    except (RuntimeError, NotImplementedError) as error:
        reason = shorten(str(error), 120)
        raise UserError(
            f"the forward of {type(module).__name__} cannot be traced on the meta device: {reason}; it must accept the "
            "example's shape and must not read the values of tensors (.item(), boolean masks, `if tensor:`)"
        ) from error


@contextmanager
def _swapped(module: nn.Module, replacement: Mapping[int, Tensor]) -> Iterator[None]:
    """The module with other tensors for a while, by the id of its own.

    `torch.func.functional_call` does not restore a module that is registered under two names (torch 2.13).
    """
    tables: list[tuple[Any, dict[str, Any]]] = [
        (table, dict(table)) for m in module.modules() for table in (m._parameters, m._buffers)
    ]
    for table, own in tables:
        table.update({name: replacement[id(tensor)] for name, tensor in own.items() if tensor is not None})
    try:
        yield
    finally:
        for table, own in tables:
            table.update(own)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; every submodule gets its own flag back."""
    training = [vars(m) for m in module.modules() if m.training]  # the flag itself: `Module.__setattr__` is slow
    for m in training:
        m["training"] = False
    try:
        yield
    finally:
        for m in training:
            m["training"] = True


_HEADS_OF_FUSION: frozenset[Kind] = frozenset(
    ("matmul", "convolution", "depthwise", "attention", "normalization", "elementwise")
)


def fused(cost: Cost) -> Cost:
    """The cost on a runtime that fuses (TensorRT, Core ML, QNN, torch.compile).

    One rule: an element-wise operator, or a batch norm, that follows a matmul, convolution, attention, normalization
    or another element-wise operator is an epilogue of it: no launch, and of its traffic only what does not pass from
    one to the other. Tensors that are made from nothing (arange, zeros) are constants there, and free.
    """
    kept: list[OperatorCost] = []
    for op in cost.operators:
        if op.kind == "other" and op.bytes_read == 0:
            continue
        epilogue = op.kind == "elementwise" or "batch_norm" in op.name
        if kept and epilogue and kept[-1].kind in _HEADS_OF_FUSION:
            head = kept.pop()
            op = OperatorCost(
                head.name,
                head.kind,
                head.flops + op.flops,
                head.bytes_read + max(0.0, op.bytes_read - head.bytes_written),
                op.bytes_written,
            )
        kept.append(op)
    return Cost(tuple(kept), cost.params, cost.weight_bytes, cost.peak_activation_bytes, cost.precision)
