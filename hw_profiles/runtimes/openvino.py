"""OpenVINO on the CPU, in fp32, tuned for latency."""

from importlib import import_module
from typing import Any

from ...search_space.inputs import Inputs
from .base import Availability, Call, Model, feed, installed, onnx_bytes, version_of


def available() -> Availability:
    return installed("openvino", "openvino")


def version() -> str:
    return version_of("openvino")


def prepare(model: Model, inputs: Inputs, threads: int) -> Call:
    ov: Any = import_module("openvino")

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(onnx_bytes(model, inputs, "openvino")), "CPU", settings)
    request, names = compiled.create_infer_request(), [node.get_any_name() for node in compiled.inputs]
    arrays = {name: x.numpy() for name, x in feed(model, inputs, names).items()}
    return lambda: list(request.infer(arrays, share_inputs=True, share_outputs=True).values())
