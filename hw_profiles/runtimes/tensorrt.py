"""TensorRT on the first NVIDIA GPU, in fp32 (no tf32); time includes the copies of inputs and outputs."""

from importlib import import_module
from typing import Any

import torch

from ...errors import UserError
from ...search_space.inputs import Inputs
from .base import Availability, Call, Model, feed, installed, onnx_bytes, version_of


def available() -> Availability:
    if not torch.cuda.is_available():
        return Availability("runtime tensorrt needs an NVIDIA GPU that PyTorch can see; this machine shows none")
    return installed("tensorrt", "tensorrt")


def version() -> str:
    return version_of("tensorrt")


def prepare(model: Model, inputs: Inputs, threads: int) -> Call:
    """Threads are of no account: the host only launches."""
    del threads
    trt: Any = import_module("tensorrt")

    logger = trt.Logger(trt.Logger.ERROR)
    engine = trt.Runtime(logger).deserialize_cuda_engine(_engine(trt, logger, onnx_bytes(model, inputs, "tensorrt")))
    context, stream = engine.create_execution_context(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    given = feed(model, inputs, [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT])
    device = {name: x.cuda().contiguous() for name, x in given.items()}
    for name in (name for name in names if name not in device):
        device[name] = torch.empty(tuple(engine.get_tensor_shape(name)), device="cuda")
    for name, tensor in device.items():
        context.set_tensor_address(name, tensor.data_ptr())

    def call() -> list[object]:
        with torch.cuda.stream(stream):
            for name, x in given.items():
                device[name].copy_(x, non_blocking=True)
            context.execute_async_v3(stream.cuda_stream)
            return [device[name].cpu() for name in names if name not in given]

    return call


def _engine(trt: Any, logger: Any, content: bytes) -> Any:
    builder = trt.Builder(logger)
    network, config = builder.create_network(0), builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        raise UserError(f"TensorRT cannot read the net: {parser.get_error(0)}")
    return builder.build_serialized_network(network, config)
