"""OpenVINO on the CPU, in fp32, tuned for latency."""

from importlib import import_module
from typing import Any

from .base import Arguments, Availability, Call, Model, as_numpy, installed, onnx_bytes, version_of


def available() -> Availability:
    return installed("openvino", "openvino")


def version() -> str:
    return version_of("openvino")


def prepare(model: Model, arguments: Arguments, threads: int) -> Call:
    ov: Any = import_module("openvino")

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(onnx_bytes(model, arguments, "openvino")), "CPU", settings)
    request, inputs = compiled.create_infer_request(), as_numpy(arguments)
    return lambda: list(request.infer(inputs, share_inputs=True, share_outputs=True).values())
