"""ONNX Runtime, its CPU provider: fp32, operators one after the other, all graph optimisations."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ...search_space.inputs import Inputs
from .base import Availability, Call, Model, feed, installed, onnx_bytes, version_of


def available() -> Availability:
    return installed("onnxruntime", "onnxruntime")


def version() -> str:
    return version_of("onnxruntime")


@lru_cache(maxsize=1)
def exact_sums() -> bool:
    """Whether it adds products of unsigned inputs and signed weights of 8 bits without loss on this machine.

    Without VNNI, x86 processors add two of them in 16 bits, which saturate. A product is computed and looked at: that
    holds for any processor, and where instructions are switched off.
    """
    import onnxruntime as ort
    from onnx import TensorProto, helper  # slow to import

    values = [
        helper.make_tensor_value_info(name, kind, [8, 8])
        for name, kind in (("x", TensorProto.UINT8), ("w", TensorProto.INT8), ("y", TensorProto.INT32))
    ]
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "sums", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x, w = np.full((8, 8), 255, np.uint8), np.full((8, 8), 127, np.int8)
    x[4:], w[:, 4:] = 0, -128  # what is 0 becomes -128 where both are made signed
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": x, "w": w})
    return np.array_equal(result, x.astype(np.int32) @ w.astype(np.int32))


def exact_session(model: bytes | str | Path, *, unsigned: bool) -> Any:
    """A session that computes `model` without saturation on this machine, whatever processor the file is for.

    Where signed weights would saturate here, codes are decoded and multiplied as floats: the session option
    `session.x64quantprecision` does not load files in which two products share a tensor (1.31).
    """
    import onnxruntime as ort

    options, levels = ort.SessionOptions(), ort.GraphOptimizationLevel
    options.log_severity_level = 3
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if unsigned or exact_sums() else levels.ORT_ENABLE_BASIC
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def prepare(model: Model, inputs: Inputs, threads: int) -> Call:
    """A module with a policy is timed in the form that is shipped for this machine."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A pool that spins after its net is done would take the core from the next net in turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads > 1 else "1")
    options.log_severity_level = 3
    content = onnx_bytes(model, inputs, unsigned=isinstance(model, nn.Module) and not exact_sums())
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    arrays = {name: x.numpy() for name, x in feed(model, inputs, names).items()}
    return lambda: session.run(None, arrays)
