"""Files to ship: a plain module as safetensors, ONNX or a torch.export program, checked against the module."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Generator, Tensor, nn

from ..errors import UserError, unknown
from ..files import check_finite, read_json, sha256_of, write_atomic, write_json
from ..hw_profiles.cost.flat import (
    Plain,
    check_free_batch,
    input_names,
    named_tensors_in,
    run,
    shorter,
    tensors_of,
    with_rows,
)
from ..hw_profiles.cost.onnx_file import exported, quantized_onnx, quiet, to_onnx
from ..hw_profiles.device import Device
from ..hw_profiles.policies import unsigned_weights
from ..hw_profiles.runtimes.onnxruntime import exact_session
from ..search_space.architecture import Architecture, architecture_of
from ..search_space.inputs import Inputs, map_tensors, random_like
from ..search_space.locate import Description
from ..search_space.quantization import policy_of
from .adopt.gguf_file import write_gguf
from .adopt.huggingface import WEIGHTS, is_adopted, write_huggingface
from .adopt.onnx_genai import write_genai
from .quantize.packed import to_tensors
from .quantize.quantized import Quantized

ONNX_TOLERANCE = 1e-4
CODES_TOLERANCE = 0.1
"""Of a quantized net: a number between two codes may go either way, and moves what comes after it by a step."""
ROUNDING = 8.0
"""A deep net's own float32 rounding may exceed the tolerance; its file may differ by so many times that."""
ROWS = 3
"""Batch that a file with a free batch is tried with, beside that of the example."""


def export(
    net: nn.Module | Quantized,
    example: Inputs,
    folder: str | Path,
    formats: Sequence[str] = ("safetensors", "onnx"),
    *,
    target: Device | None = None,
) -> dict[str, Path]:
    """Write `net` to `folder` in every format, and `model.json` with their checksums, which `load` reads.

    example: what the net is called with: a tensor is the one argument, a sequence all arguments, a mapping all
        keywords. The net may return tensors, tuples, mappings and dataclasses.
    formats: "safetensors" (weights), "onnx" (ONNX Runtime must agree within 1e-4 on the example and on random inputs
        like it), "torch" (torch.export program). In the last two the first dimension, the batch, stays free; of several
        inputs that of those whose first dimension is as long as that of the first one.
    "huggingface" is a folder that `AutoModel...from_pretrained` loads without nas, of a net of the transformers library
        (see `nas.adopt`); its weights take the place of "safetensors".
    "onnx-genai" is its decoder with key/value cache, in the layout of ONNX Runtime GenAI: 32 tokens of greedy text are
        those of torch. Of such nets also the number of tokens stays free in "onnx".
    "gguf" is a file for llama.cpp, of a Llama whose layers are all of one size.
    "onnx-fixed" is "onnx" for exactly the example's batch, 3 to 20 % faster in ONNX Runtime (`model-fixed.onnx`).
    A quantized net is written with packed codes, and as an ONNX file that runs in integer kernels ("torch" has none).
    target: where that file will run (`load_device`). None: it computes what was evaluated on every processor that ONNX
        Runtime has; a device of which more is known may get signed weights, which other runtimes need and x86 with VNNI
        multiplies faster (see `quantized_onnx`).
    Returns the file of each format. Errors: a net that does not take the example or that a format has no form for;
    weights that are not finite; a file that differs from the net.

    >>> files = nas.export(net, task.example, "model")
    >>> sorted(files)
    ['onnx', 'safetensors']
    """
    check_formats(formats)
    quantized = net if isinstance(net, Quantized) else Quantized(net)
    if quantized.parts and "torch" in formats:
        raise UserError(
            "a quantized net has no format 'torch': torch.export would write floats; use safetensors or onnx "
            "(torchao's kernels read safetensors: nas.load(folder, kernels='torchao'))"
        )
    module, folder, unsigned = quantized.module, Path(folder), unsigned_weights(target)
    buffers = dict(module.named_buffers())
    check_finite(named_tensors(module), f"the weights of {type(module).__name__}", infinite=buffers)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            outputs = run(module, example)
            if {"onnx", "torch"}.intersection(formats):
                check_free_batch(module, example, ROWS)
        paths = {name: WRITERS[name](quantized, example, folder, unsigned) for name in formats}
        facts: dict[str, Any] = {"unsigned": unsigned} if quantized.parts else {}
        if (architecture := architecture_of(module)) is not None:
            facts["architecture"] = dict(architecture)
        facts |= {"huggingface": True} if "huggingface" in formats else {}
        write_json(folder / "model.json", facts | _facts(module, example, outputs, folder, paths.values()))
    finally:
        module.train(was_training)
    return paths


def _facts(module: nn.Module, example: Inputs, outputs: Any, folder: Path, paths: Iterable[Path]) -> dict[str, Any]:
    """What `load` needs to check the files and to call them."""
    form = "tensor" if isinstance(outputs, Tensor) else "tuple" if isinstance(outputs, list | tuple) else "mapping"
    return {
        "sha256": {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths},
        "inputs": input_names(module, example),
        "outputs": {"form": form, "names": [name for name, _ in named_tensors_in(outputs)]},
    }


def check_formats(formats: Sequence[str]) -> None:
    """Error: a format that does not exist."""
    for name in formats:
        if name not in WRITERS:
            raise unknown("format", name, WRITERS)
    if {"safetensors", "huggingface"}.issubset(formats):
        raise UserError(f"the formats safetensors and huggingface both write {WEIGHTS}; leave out safetensors")


def formats_of(net: nn.Module, formats: Sequence[str] = ("safetensors", "onnx")) -> list[str]:
    """These, with a Hugging Face folder in the place of safetensors where the net has one."""
    own = "huggingface" if is_adopted(net) and not policy_of(net) else "safetensors"
    return [own if name == "safetensors" else name for name in formats]


def _write_safetensors(net: Quantized, example: Inputs, folder: Path, unsigned: bool) -> Path:
    del example, unsigned
    return write_atomic(folder / FILES["safetensors"], save(stored(net)))


def stored(net: Quantized) -> dict[str, Tensor]:
    """What `model.safetensors` holds: tensors by name, ties once; of a quantized net codes and scales."""
    if net.parts:
        return to_tensors(net)
    return {name: t.detach().contiguous().cpu().clone() for name, t in named_tensors(net.module).items()}


def _write_onnx(net: Quantized, example: Inputs, folder: Path, unsigned: bool, *, free_batch: bool = True) -> Path:
    free = {"free_batch": free_batch, "free_length": free_batch and is_adopted(net.module)}
    if net.parts:
        floats, codes = net.floats(), net.integers()
        content = quantized_onnx(floats, example, codes, **free, unsigned=unsigned)
    else:
        content = to_onnx(net.module, example, **free)
    generator = Generator().manual_seed(0)
    like = with_rows(example, ROWS) if free_batch else example
    like = shorter(like) if free["free_length"] else like
    _check_onnx(content, net, (example, random_like(like, generator)), unsigned)
    return write_atomic(folder / FILES["onnx" if free_batch else "onnx-fixed"], content)


def _write_torch(net: Quantized, example: Inputs, folder: Path, unsigned: bool) -> Path:
    del unsigned
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(exported(Plain(net.module), example), buffer)
    return write_atomic(folder / FILES["torch"], buffer.getvalue())


def _write_adopted(
    format: str,
    write: Callable[[nn.Module, Inputs, Path], Path],
    net: Quantized,
    example: Inputs,
    folder: Path,
    unsigned: bool,
) -> Path:
    """A format of nets of the transformers library."""
    del unsigned
    if net.parts:
        raise UserError(f"a quantized net has no format {format!r}, which holds floats; use safetensors or onnx")
    return write(net.module, example, folder)


FILES = {
    "safetensors": WEIGHTS,
    "huggingface": WEIGHTS,
    "onnx": "model.onnx",
    "onnx-fixed": "model-fixed.onnx",
    "onnx-genai": "onnx-genai/model.onnx",
    "gguf": "model.gguf",
    "torch": "model.pt2",
}
WRITERS: Mapping[str, Callable[[Quantized, Inputs, Path, bool], Path]] = {
    "safetensors": _write_safetensors,
    "huggingface": partial(_write_adopted, "huggingface", write_huggingface),
    "gguf": partial(_write_adopted, "gguf", write_gguf),
    "onnx": _write_onnx,
    "onnx-fixed": partial(_write_onnx, free_batch=False),
    "onnx-genai": partial(_write_adopted, "onnx-genai", write_genai),
    "torch": _write_torch,
}


def _check_onnx(content: bytes, net: Quantized, cases: Sequence[Inputs], unsigned: bool) -> None:
    """Error: an output of the file differs from the net's on one of these inputs."""
    session = exact_session(content, unsigned=unsigned)
    names, tolerance = input_names(net.module, cases[0]), CODES_TOLERANCE if net.parts else ONNX_TOLERANCE
    for case, what in zip(cases, ("the example", "random inputs like the example"), strict=True):
        with torch.no_grad():
            expected = [(name, t.detach().cpu()) for name, t in named_tensors_in(run(net.module, case))]
        given = dict(zip(names, tensors_of(case), strict=True))
        outputs = session.run(None, {node.name: given[node.name].cpu().numpy() for node in session.get_inputs()})
        for (name, wanted), output in zip(expected, outputs, strict=True):
            error = _difference(wanted, torch.from_numpy(output)) if wanted.is_floating_point() or not net.parts else 0
            if not error <= tolerance and not error <= ROUNDING * _rounding(net, case, name, wanted):
                hint = "" if net.parts else "; a forward that branches on the values of its inputs has no ONNX form"
                raise UserError(
                    f"the ONNX file differs from the module by {error:.1e} in {name!r} on {what} (tolerance "
                    f"{tolerance:g}); not written{hint}"
                )


def _rounding(net: Quantized, case: Inputs, name: str, computed: Tensor) -> float:
    """How far float32 is from float64 in this output of the module itself; 0 for a quantized net."""
    if net.parts:
        return 0.0
    double = map_tensors(lambda x: x.double() if x.is_floating_point() else x, case)
    try:
        with torch.no_grad():
            exact = run(deepcopy(net.module).double(), double)
    except RuntimeError:  # its code states float32
        return 0.0
    return _difference(dict(named_tensors_in(exact))[name].cpu(), computed)


def _difference(expected: Tensor, output: Tensor) -> float:
    """The largest, relative to the outputs where they exceed 1. Infinite where shapes or what is not finite differ."""
    expected, output = expected.double(), output.double()
    finite = expected.isfinite()
    if expected.shape != output.shape or not torch.equal(expected[~finite].nan_to_num(), output[~finite].nan_to_num()):
        return float("inf")
    if not finite.any():
        return 0.0
    return float((output - expected)[finite].abs().max() / expected[finite].abs().max().clamp(min=1))


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tensor once (ties keep their first name)."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def save_bundle(folder: Path, architecture: Architecture, space: Description, facts: Mapping[str, Any]) -> None:
    """Write `architecture.json` (the genes alone), and to `model.json` what `load` builds the net from, and facts."""
    genes = write_atomic(folder / "architecture.json", architecture.to_json())
    content = read_json(folder / "model.json", "a model")
    content["sha256"][genes.name] = sha256_of(genes)
    write_json(folder / "model.json", {"architecture": dict(architecture), "space": dict(space), **facts, **content})
