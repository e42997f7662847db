"""PyTorch, eager, in inference mode, on the CPU."""

from collections.abc import Sequence

import torch
from torch import nn

from ...errors import UserError
from ...search_space.inputs import Inputs, tensors_in
from ...search_space.inputs import call as call_module
from ...search_space.quantization import policy_of
from .base import Availability, Call, Model


def available() -> Availability:
    return Availability()


def version() -> str:
    return str(torch.__version__)


def prepare(model: Model, inputs: Inputs, threads: int) -> Call:
    """Threads are a setting of the whole process in PyTorch; each call makes sure of its own."""
    if not isinstance(model, nn.Module):
        raise UserError(f"runtime torch runs modules, not files ({model}); use onnxruntime")
    if policy_of(model):
        raise UserError("runtime torch runs floats, and this net has a quantization policy; use onnxruntime")
    module = model.eval()

    def call() -> Sequence[object]:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return tensors_in(call_module(module, inputs))

    return call
