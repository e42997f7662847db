"""The cost of an ONNX file, by the rules and in the units of a module's trace."""

from collections.abc import Hashable, Iterable
from os import PathLike
from typing import NamedTuple

import torch
from onnx import TensorProto, helper
from torch import Tensor

from .aten import elements
from .liveness import KeyValues, Liveness, Piece
from .onnx_graph import Graph, Step, read_graph
from .onnx_rules import RESHAPES, VIEWS, attention_of, flops_of, kind_of
from .onnx_values import Example, Value
from .operators import WEIGHT_BYTES, Cost, Kind, OperatorCost, block_sizes, bytes_per_element

_FLOATS = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16))
_QUANTIZED = frozenset((TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4))


def onnx_cost(path: str | PathLike[str], example: Example | None = None, precision: str = "fp32") -> Cost:
    """The cost of the graph, every float of it at `precision` (quantized tensors keep their width).

    Free dimensions get their sizes from `example`: a tensor, one for each input, or sizes by the name of the dimension
    or input. Parameters are the floating-point (or quantized) initializers that an operator reads; scalars, the
    statistics of batch norms and the scales of quantized tensors apart. A file does not tell buffers from parameters.
    """
    graph = read_graph(path, example)
    meter = _Meter(precision, graph)
    for step in graph.steps:
        meter.run(step)
    meter.touch(meter.held[name] for name in graph.outputs if name in meter.held)
    weights = [v for v in graph.initializers if v.name in meter.read]
    params = sum(v.elements for v in weights if _is_parameter(v) and v.name not in meter.statistics)
    weight_bytes = sum(v.elements * meter.width(v, True) for v in weights)
    operators = meter.key_values.ordered(meter.rows)
    return Cost(operators, params, weight_bytes, meter.liveness.peak(), precision, meter.key_values.bytes)


def _is_parameter(value: Value) -> bool:
    return bool(value.shape) and (value.element in _FLOATS or (value.element in _QUANTIZED and len(value.shape) > 1))


class _Held(NamedTuple):
    """Where a tensor lies: views share the root of what they look at."""

    root: str
    offset: Hashable
    layout: Tensor
    """A meta tensor of its shape and strides; torch knows which reshapes are views."""
    width: float
    weight: bool

    @property
    def bytes(self) -> float:
        return elements(self.layout) * self.width

    @property
    def piece(self) -> Piece:
        return Piece(self.root, self.offset, self.bytes, self.weight)


class _Meter:
    """Walks the steps, as the tracer sees operators."""

    def __init__(self, precision: str, graph: Graph) -> None:
        self._float_bytes, self._weight_bytes = bytes_per_element(precision), WEIGHT_BYTES[precision]
        self.rows: list[OperatorCost] = []
        self.liveness, self.key_values = Liveness(), KeyValues()
        self.read: set[str] = set()
        self.statistics: set[str] = set()
        self.held = {v.name: self._new(v, True) for v in graph.initializers}
        self.held |= {v.name: self._new(v, False) for v in graph.inputs}
        self.touch(self.held[v.name] for v in graph.inputs)

    def width(self, value: Value, weight: bool) -> float:
        """Bytes of an element."""
        if value.element in _FLOATS:
            return self._weight_bytes if weight else self._float_bytes
        if value.element in (TensorProto.INT4, TensorProto.UINT4):
            return 0.5
        return float(helper.tensor_dtype_to_np_dtype(value.element).itemsize)

    def run(self, step: Step) -> None:
        self.read |= {value.name for value in step.given}
        first = {"BatchNormalization": 3, "QuantizeLinear": 1, "DequantizeLinear": 1}.get(step.op, len(step.given))
        self.statistics |= {value.name for value in step.given[first:]}
        inputs = [self._of(value) for value in step.given]
        if all(value.constant for value in step.outputs):
            self._fold(step, inputs)
        elif (layout := self._view(step, inputs)) is not None:
            self._look(step, inputs[0], layout)
        else:
            self._compute(step, inputs)

    def touch(self, tensors: Iterable[_Held]) -> None:
        now = max(len(self.rows) - 1, 0)
        for tensor in tensors:
            if not tensor.weight:
                self.liveness.touch(tensor.root, tensor.bytes, now)

    def _new(self, value: Value, weight: bool) -> _Held:
        return _Held(value.name, 0, torch.empty(value.shape, device="meta"), self.width(value, weight), weight)

    def _of(self, value: Value) -> _Held:
        """Initializers of a loop's body are met here first."""
        return self.held.setdefault(value.name, self._new(value, value.constant))

    def _fold(self, step: Step, inputs: list[_Held]) -> None:
        """Done once, when the net is loaded. A weight that is dequantized stays as narrow as it was."""
        for value in step.outputs:
            new = self._new(value, True)
            narrow = step.op == "DequantizeLinear" and value.element in _FLOATS
            self.held[value.name] = new._replace(width=inputs[0].width) if narrow else new

    def _view(self, step: Step, inputs: list[_Held]) -> Tensor | None:
        """Layout of the output where torch has a view; None: a kernel computes it."""
        if not inputs or inputs[0].weight:
            return None
        layout, shape = inputs[0].layout, step.outputs[0].shape
        if step.op == "Gather" and step.given[1].constant and not step.given[1].shape:  # x[:, 3]
            return layout.select(step.attribute("axis", 0), 0)
        if step.op == "Cast" and {step.given[0].element, step.outputs[0].element} <= _FLOATS:
            return layout
        if step.op in RESHAPES:
            return _reshaped(layout, shape)
        if step.op == "Transpose":
            return layout.permute(tuple(step.attribute("perm", range(layout.dim())[::-1])))
        if step.op == "Expand":
            return layout.expand(shape)
        return layout.as_strided(shape, layout.stride()) if step.op in VIEWS else None

    def _look(self, step: Step, source: _Held, layout: Tensor) -> None:
        for at, value in enumerate(step.outputs):
            apart = step.op in ("Slice", "Split", "Gather")
            own = layout if at == 0 else layout.as_strided(value.shape, layout.stride())
            offset = (source.offset, value.name) if apart else source.offset
            self.held[value.name] = source._replace(layout=own, offset=offset)

    def _compute(self, step: Step, inputs: list[_Held]) -> None:
        # Mean and deviation, the other outputs of a normalization, are kept for training alone.
        kind: Kind = "other" if step.op in VIEWS else kind_of(step)
        outputs = step.outputs[:1] if kind == "normalization" else step.outputs
        held = [self._new(value, False) for value in outputs]
        self.held |= {value.name: self._new(value, False) for value in step.outputs}
        written = sum(tensor.bytes for tensor in held)
        sources = inputs[1:] if kind == "gather" else inputs
        read = sum(tensor.bytes for tensor in sources) + (written if kind == "gather" else 0)
        flops = 0 if step.op in VIEWS else flops_of(step, kind)
        sizes = block_sizes(kind, flops, step.outputs[0].shape)
        self.rows.append(OperatorCost(step.op, kind, flops, read, written, step.repeats, **sizes))
        self.touch((*inputs, *held))
        pieces = [tensor.piece for tensor in inputs]
        if kind == "attention":
            pieces[1:3] = self._kept(step)
        self.key_values.see(len(self.rows) - 1, self.rows[-1], pieces, held[0].piece)

    def _kept(self, step: Step) -> list[Piece]:
        """Keys and values of an attention operator: its operands, or a part of what it makes inside."""
        operands = (*step.inputs[1:3], None, None)
        found = []
        for at, count in enumerate(attention_of(step).kept):
            operand = operands[at]
            held = self._of(operand) if operand is not None else None
            where = (held.root, held.offset) if held and not held.weight else (step.outputs[0].name, at)
            found.append(Piece(*where, count * self._float_bytes))
        return found


def _reshaped(layout: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """None: only a copy has this shape."""
    try:
        return layout.view(shape)
    except RuntimeError:
        return None
