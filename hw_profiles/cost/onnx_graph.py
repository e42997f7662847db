"""An ONNX file as a list of steps whose shapes are all known: shape arithmetic is computed, constants are folded.

Weights are never loaded: neither external data nor the bytes of a large initializer are looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from ...errors import UserError
from .onnx_values import LARGEST_FOLDED, Example, Value, initializer_value, input_values


@dataclass(frozen=True)
class Step:
    """A node, run `repeats` times (in loops). Inputs that are left out are None."""

    node: NodeProto
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    repeats: int = 1

    @property
    def op(self) -> str:
        return str(self.node.op_type)

    @property
    def given(self) -> tuple[Value, ...]:
        return tuple(value for value in self.inputs if value is not None)

    def attribute(self, name: str, default: Any = None) -> Any:
        for attribute in self.node.attribute:
            if attribute.name == name:
                return helper.get_attribute_value(attribute)
        return default


@dataclass(frozen=True)
class Graph:
    steps: tuple[Step, ...]
    inputs: tuple[Value, ...]
    initializers: tuple[Value, ...]
    outputs: tuple[str, ...]


def read_graph(path: str | PathLike[str], example: Example | None) -> Graph:
    """The main graph of a file. Errors: no ONNX file, a free dimension without a size, a shape that depends on data."""
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise UserError(f"ONNX file {path} cannot be read: {error.strerror or error}") from None
    except Exception:  # protobuf's DecodeError has no public name that is stable
        raise UserError(f"{path} is no ONNX file, or it is truncated") from None
    if not model.graph.node:
        raise UserError(f"{path} is no ONNX file, or its graph is empty")
    if model.functions:
        model = inliner.inline_local_functions(model)
    initializers = {t.name: initializer_value(t) for t in model.graph.initializer}
    free = [v for v in model.graph.input if v.name not in initializers]
    inputs = input_values(free, example)
    walk = _Walk({v.name: v for v in (*initializers.values(), *inputs)}, model)
    steps = tuple(walk.run(model.graph))
    return Graph(steps, inputs, tuple(initializers.values()), tuple(v.name for v in model.graph.output))


class _Walk:
    """One pass over a graph in its order; `values` grows by what each node gives."""

    def __init__(self, values: dict[str, Value], model: onnx.ModelProto) -> None:
        self.values = values
        self.opsets = list(model.opset_import)
        self.versions = {o.domain: o.version for o in model.opset_import}

    def run(self, graph: GraphProto, repeats: int = 1) -> Iterator[Step]:
        self.values |= {t.name: initializer_value(t) for t in graph.initializer}
        stated = {v.name: v for v in (*graph.value_info, *graph.output)}
        for node in graph.node:
            inputs = tuple(self.values[name] if name else None for name in node.input)
            body = _BODIES.get(node.op_type)
            if body is not None:
                yield from body(self, node, inputs, repeats)
                continue
            outputs = self._outputs(node, inputs, stated)
            self.values |= {value.name: value for value in outputs}
            yield Step(node, inputs, outputs, repeats)

    def _outputs(
        self, node: NodeProto, inputs: tuple[Value | None, ...], stated: Mapping[str, Any]
    ) -> tuple[Value, ...]:
        given = [value for value in inputs if value is not None]
        names = [name for name in node.output if name]
        if node.op_type == "Shape":
            shape = np.array(given[0].shape, np.int64)[_attribute(node, "start", 0) : _attribute(node, "end", None)]
            return (Value(names[0], shape.shape, TensorProto.INT64, True, shape),)
        types = self._types(node, given, stated)
        values = [_typed(node, name, types.get(name), stated.get(name)) for name in names]
        constant = all(value.constant for value in given) and not node.op_type.startswith("Random")
        if constant and all(v.data is not None for v in given) and sum(v.elements for v in values) <= LARGEST_FOLDED:
            return self._folded(node, given, values)
        return tuple(replace(value, constant=constant) for value in values)

    def _types(self, node: NodeProto, given: Sequence[Value], stated: Mapping[str, Any]) -> Mapping[str, Any]:
        """Types of the outputs, from the operator's schema."""
        types = {v.name: helper.make_tensor_type_proto(v.element, v.shape) for v in given}
        name = node.op_type
        if not onnx.defs.has(name, node.domain):
            like = _LIKE.get(name)
            if like is None:
                return {
                    n: stated[n].type if n in stated and _dims(stated[n].type) else types[given[0].name]
                    for n in node.output
                    if n
                }
            node, name = _standard(node, like, types), like
        schema = onnx.defs.get_schema(name, self.versions.get(node.domain, 1), node.domain)
        data = {v.name: numpy_helper.from_array(v.data) for v in given if v.data is not None}
        try:
            return infer_node_outputs(schema, node, types, data, opset_imports=self.opsets)
        except Exception as error:  # the C++ checker's errors have several types
            raise UserError(f"operator {name} ({node.name}) of the ONNX graph is invalid: {error}") from None

    def _folded(self, node: NodeProto, given: Sequence[Value], values: Sequence[Value]) -> tuple[Value, ...]:
        evaluator = ReferenceEvaluator(node, opsets=self.versions)
        results = evaluator.run(None, {value.name: value.data for value in given})
        return tuple(
            replace(value, shape=np.shape(data), constant=True, data=np.asarray(data))
            for value, data in zip(values, results, strict=True)
        )


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


# Operators of ONNX Runtime whose shapes are those of a standard one; all others keep the shape of their first input.
_LIKE = {"FusedMatMul": "MatMul", "FusedGemm": "Gemm", "FusedConv": "Conv", "DynamicQuantizeMatMul": "MatMul"}


def _standard(node: NodeProto, like: str, types: dict[str, Any]) -> NodeProto:
    """The standard operator of a contributed one; `types` of transposed operands are turned."""
    plain = NodeProto()
    plain.CopyFrom(node)
    plain.op_type, plain.domain = like, ""
    if like == "MatMul":
        for name, flag in zip(node.input[:2], ("transA", "transB"), strict=False):
            dims = types[name].tensor_type.shape.dim
            if _attribute(node, flag, 0) and len(dims) > 1:
                turned = [d.dim_value for d in dims]
                turned[-2:] = turned[:-3:-1]
                types[name] = helper.make_tensor_type_proto(types[name].tensor_type.elem_type, turned)
        del plain.input[2:], plain.attribute[:]
    return plain


def _dims(tensor: Any) -> tuple[int, ...] | None:
    """The shape of a TypeProto, if all of it is known."""
    if tensor is None or not tensor.tensor_type.HasField("shape"):
        return None
    dims = tensor.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def _typed(node: NodeProto, name: str, inferred: Any, stated: Any) -> Value:
    """The value of an inferred type, or of the one that the file states."""
    for tensor in (inferred, stated.type if stated is not None else None):
        if tensor is not None and (dims := _dims(tensor)) is not None:
            return Value(name, dims, tensor.tensor_type.elem_type)
    raise UserError(
        f"the shape of {name!r}, which {node.op_type} gives, is not known from the ONNX graph: it depends on data, or "
        "the operator is not a standard one and the file states no shapes"
    )


def _branch(walk: _Walk, node: NodeProto, inputs: Sequence[Value | None], repeats: int) -> Iterator[Step]:
    """If: the branch that a constant condition chooses, else the longer one."""
    condition = inputs[0].data if inputs[0] is not None else None
    branches = {a.name: a.g for a in node.attribute if a.type == AttributeProto.GRAPH}
    longer = max(branches.values(), key=lambda graph: len(graph.node))
    chosen = longer if condition is None else branches["then_branch" if condition.all() else "else_branch"]
    yield from walk.run(chosen, repeats)
    yield from _renamed(walk, [walk.values[v.name] for v in chosen.output], node.output)


def _loop(walk: _Walk, node: NodeProto, inputs: Sequence[Value | None], repeats: int) -> Iterator[Step]:
    """Loop: its body, as often as its constant trip count says."""
    trips = inputs[0].data if inputs[0] is not None else None
    if trips is None:
        raise UserError(f"how often the Loop {node.name!r} of the ONNX graph runs is not known without data")
    body, times = _attribute(node, "body", None), int(trips.reshape(()))
    state = [value for value in inputs[2:] if value is not None]
    counter = Value(body.input[0].name, (), TensorProto.INT64)
    go_on = Value(body.input[1].name, (), TensorProto.BOOL)
    walk.values |= {counter.name: counter, go_on.name: go_on}
    yield from _renamed(walk, state, [v.name for v in body.input[2:]])
    yield from walk.run(body, repeats * times)
    results = [walk.values[v.name] for v in body.output[1:]]
    stacked = [replace(v, shape=(times, *v.shape), constant=False) for v in results[len(state) :]]
    yield from _renamed(walk, [*results[: len(state)], *stacked], node.output)


def _scan(walk: _Walk, node: NodeProto, inputs: Sequence[Value | None], repeats: int) -> Iterator[Step]:
    """Scan: its body, once for each element of the sequence (along axis 0)."""
    body, scanned = _attribute(node, "body", None), _attribute(node, "num_scan_inputs", 1)
    values = [value for value in inputs if value is not None]
    state, sequences = values[:-scanned], values[-scanned:]
    times = sequences[0].shape[0]
    elements = [replace(v, shape=v.shape[1:], constant=False, data=None) for v in sequences]
    yield from _renamed(walk, [*state, *elements], [v.name for v in body.input])
    yield from walk.run(body, repeats * times)
    results = [walk.values[v.name] for v in body.output]
    stacked = [replace(v, shape=(times, *v.shape), constant=False) for v in results[len(state) :]]
    yield from _renamed(walk, [*results[: len(state)], *stacked], node.output)


def _renamed(walk: _Walk, values: Sequence[Value], names: Sequence[str]) -> Iterator[Step]:
    """The same tensors under other names: where a body begins and ends."""
    for value, name in zip(values, names, strict=True):
        walk.values[name] = replace(value, name=name, constant=False, data=None)
        yield Step(helper.make_node("Identity", [value.name], [name]), (value,), (walk.values[name],))


_BODIES = {"If": _branch, "Loop": _loop, "Scan": _scan}
