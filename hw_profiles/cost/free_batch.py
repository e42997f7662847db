"""An ONNX file whose batch is free, from the files of one net for two fixed batches.

Tracing a module for a fixed batch is quick, and more of such a graph can be computed in advance. Where the batch is in
it, the files of two batches differ: in shapes, and in the constants that `Reshape` takes for a shape.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper

BATCH = "batch"
Shape = tuple[int, ...]


def with_free_batch(one: bytes, other: bytes, rows: int) -> bytes | None:
    """The graph of both files for any batch; None where they differ in more than shapes that -1 can stand in.

    rows: the batch of `one`.
    """
    model, like = _folded(one), _folded(other)
    graph, constants, others = model.graph, _constants(model), _constants(like)
    shapes = [{value.name: _shape(value) for value in _values(each.graph)} for each in (model, like)]
    standard = not any(node.domain for node in graph.node)
    if not standard or constants.keys() != others.keys() or _operators(graph) != _operators(like.graph):
        return None
    for name, tensor in constants.items():
        if tensor != others[name]:
            shape = _free_shape(graph, name, *shapes)
            if shape is None:
                return None
            tensor.CopyFrom(numpy_helper.from_array(np.array(shape), tensor.name))
    for value in _values(graph):
        for dim, own, second in zip(_dims(value), shapes[0][value.name], shapes[1][value.name], strict=True):
            if own != second:
                dim.dim_param = BATCH if own == rows else ""
    used = [each for each in model.opset_import if not each.domain]
    del model.opset_import[:]
    model.opset_import.extend(used)
    content: bytes = model.SerializeToString()
    return content


def _folded(content: bytes) -> ModelProto:
    """As ONNX Runtime computes it, with all shapes: constants are computed, and products are of matrices."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return onnx.shape_inference.infer_shapes(onnx.load(path))


def _constants(model: ModelProto) -> Mapping[str, TensorProto]:
    """Tensors that the file holds, by the name that nodes read them by."""
    nodes = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    return {**{tensor.name: tensor for tensor in model.graph.initializer}, **nodes}


def _operators(graph: GraphProto) -> list[bytes]:
    """The nodes but constants."""
    return [node.SerializeToString(deterministic=True) for node in graph.node if node.op_type != "Constant"]


def _values(graph: GraphProto) -> list[ValueInfoProto]:
    return [*graph.input, *graph.output, *graph.value_info]


def _dims(value: ValueInfoProto) -> list[onnx.TensorShapeProto.Dimension]:
    return list(value.type.tensor_type.shape.dim)


def _shape(value: ValueInfoProto) -> Shape:
    return tuple(dim.dim_value for dim in _dims(value))


def _free_shape(graph: GraphProto, name: str, one: Mapping[str, Shape], other: Mapping[str, Shape]) -> Shape | None:
    """What the constant `name` has to say for any batch: -1 where the outputs of its `Reshape` differ, if it can."""
    readers = [node for node in graph.node if name in node.input]
    if any(node.op_type != "Reshape" or node.input[0] == name for node in readers):
        return None
    pairs = {(one.get(node.output[0]), other.get(node.output[0])) for node in readers}
    if len(pairs) != 1 or None in (pair := pairs.pop()):
        return None
    own, second = pair
    free = tuple(-1 if a != b else a for a, b in zip(own or (), second or (), strict=True))
    return free if free.count(-1) == 1 else None
