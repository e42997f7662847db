"""Files to ship: a plain module as safetensors, ONNX or a torch.export program, checked against the module."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..files import write_atomic
from ..hw_profiles.cost.onnx_file import exported, quantized_onnx, quiet, to_onnx
from ..hw_profiles.device import Device
from ..hw_profiles.policies import unsigned_weights
from ..hw_profiles.runtimes.onnxruntime import exact_session
from ..search_space.architecture import Architecture
from ..search_space.locate import Description, net_from
from ..search_space.quantization import policy_of
from ..search_space.space import SearchSpace, replace_parameters
from .quantize.packed import from_tensors, to_tensors
from .quantize.quantized import Quantized
from .quantize.torchao import held_by_torchao

ONNX_TOLERANCE = 1e-4
CODES_TOLERANCE = 0.1
"""Of a quantized net: a number between two codes may go either way, and moves what comes after it by a step."""


def export(
    net: nn.Module | Quantized,
    example: Tensor,
    folder: str | Path,
    formats: Sequence[str] = ("safetensors", "onnx"),
    *,
    target: Device | None = None,
) -> dict[str, Path]:
    """Write `net` to `folder` in every format; the first dimension of `example` is the batch and stays free.

    formats: "safetensors" (weights), "onnx" (ONNX Runtime must agree within 1e-4), "torch" (torch.export program);
    "onnx-fixed" is "onnx" for exactly the example's batch, 3 to 20 % faster in ONNX Runtime (`model-fixed.onnx`).
    A quantized net is written with packed codes, and as an ONNX file that runs in integer kernels ("torch" has none).
    target: where that file will run (`load_device`). None: it computes what was evaluated on every processor that ONNX
    Runtime has; a device of which more is known may get signed weights, which other runtimes need and x86 with VNNI
    multiplies faster (see `quantized_onnx`).
    Returns the file of each format.
    """
    check_formats(formats)
    quantized = net if isinstance(net, Quantized) else Quantized(net)
    if quantized.parts and "torch" in formats:
        raise UserError(
            "a quantized net has no format 'torch': torch.export would write floats; use safetensors or onnx "
            "(torchao's kernels read safetensors: nas.load(folder, kernels='torchao'))"
        )
    was_training = quantized.twin.training
    quantized.twin.eval()
    unsigned = target is None or unsigned_weights(target)
    try:
        return {name: WRITERS[name](quantized, example, Path(folder), unsigned) for name in formats}
    finally:
        quantized.twin.train(was_training)


def check_formats(formats: Sequence[str]) -> None:
    """Error: a format that does not exist."""
    for name in formats:
        if name not in WRITERS:
            raise unknown("format", name, WRITERS)


def _write_safetensors(net: Quantized, example: Tensor, folder: Path, unsigned: bool) -> Path:
    del example, unsigned
    return write_atomic(folder / "model.safetensors", save(stored(net)))


def stored(net: Quantized) -> dict[str, Tensor]:
    """What `model.safetensors` holds: tensors by name, ties once; of a quantized net codes and scales."""
    if net.parts:
        return to_tensors(net)
    return {name: t.detach().contiguous().cpu().clone() for name, t in named_tensors(net.twin).items()}


def _write_onnx(net: Quantized, example: Tensor, folder: Path, unsigned: bool, *, free_batch: bool = True) -> Path:
    if net.parts:
        floats, codes, tolerance = net.floats(), net.integers(), CODES_TOLERANCE
        content = quantized_onnx(floats, example, codes, free_batch=free_batch, unsigned=unsigned)
    else:
        content, tolerance = to_onnx(net.twin, example, free_batch=free_batch), ONNX_TOLERANCE
    error = _onnx_error(content, net.twin, (3 if free_batch else len(example), *example.shape[1:]))
    if not error <= tolerance:
        raise UserError(f"the ONNX file differs from the module by {error:.1e} (tolerance {tolerance:g}); not written")
    return write_atomic(folder / ("model.onnx" if free_batch else "model-fixed.onnx"), content)


def _write_torch(net: Quantized, example: Tensor, folder: Path, unsigned: bool) -> Path:
    del unsigned
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(exported(net.twin, (example,)), buffer)
    return write_atomic(folder / "model.pt2", buffer.getvalue())


WRITERS: Mapping[str, Callable[[Quantized, Tensor, Path, bool], Path]] = {
    "safetensors": _write_safetensors,
    "onnx": _write_onnx,
    "onnx-fixed": partial(_write_onnx, free_batch=False),
    "torch": _write_torch,
}


def _onnx_error(model: bytes, module: nn.Module, shape: Sequence[int]) -> float:
    """Largest difference to torch over noise inputs, relative to the outputs where they exceed 1."""
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(x).numpy()
    session = exact_session(model)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tensor once (ties keep their first name)."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def save_bundle(folder: Path, architecture: Architecture, space: Description, facts: Mapping[str, Any]) -> None:
    """Write `architecture.json` (the genes alone) and `model.json` (what `load` needs beside the weights; facts)."""
    write_atomic(folder / "architecture.json", architecture.to_json())
    content = {"architecture": dict(architecture), "space": dict(space), **facts}
    write_atomic(folder / "model.json", json.dumps(content, indent=1))


KERNELS: Mapping[str, Callable[[Quantized], nn.Module]] = {"torchao": held_by_torchao}


def with_kernels(quantized: Quantized, kernels: str) -> nn.Module:
    """The quantized net as a module that holds its codes and computes with them: "torchao" (`quantize/torchao.py`).

    Errors: kernels that do not exist or are not installed; a net that is not quantized.
    """
    if kernels not in KERNELS:
        raise unknown("kernels", kernels, KERNELS)
    if not quantized.parts:
        raise UserError(f"the net is not quantized, and kernels={kernels!r} run codes; leave it out")
    return KERNELS[kernels](quantized).eval()


def load(folder: str | Path, space: SearchSpace | None = None, *, kernels: str | None = None) -> nn.Module:
    """The extracted model of `folder` (`best/` of a search, or of `nas extract`), in evaluation mode, ready to call.

    space: needed only where the space was a Python function that has moved or changed since.
    kernels: of a quantized net, what computes with its codes (see `with_kernels`); None: the twin, floats that are what
        integer kernels compute.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / "model.json").read_text())
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no model: {error}; expected model.json and model.safetensors") from None
    genes = content["architecture"]
    module = net_from(content["space"], genes) if space is None else space.build(genes)
    if policy_of(module):
        found = from_tensors(module, tensors)
        return found.twin.eval() if kernels is None else with_kernels(found, kernels)
    if kernels is not None:
        return with_kernels(Quantized(module), kernels)
    expected = named_tensors(module)
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())
        raise UserError(f"model.safetensors in {folder} does not fit model.json: {', '.join(odd[:4])}")
    values = {id(p): tensors[name] for name, p in module.named_parameters()}
    replace_parameters(module, lambda p: nn.Parameter(values[id(p)], p.requires_grad))
    for name, buffer in module.named_buffers():
        buffer.copy_(tensors[name])
    return module.eval()
