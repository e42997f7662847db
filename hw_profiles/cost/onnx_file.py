"""From a module to an ONNX file: the one way, for files to ship and for files that are only timed."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from ...errors import UserError
from ...search_space.inputs import Inputs, arguments
from ...search_space.projections import with_projections
from ...search_space.quantization import policy_of
from ...search_space.temporary import unfused
from .flat import Flat, batch_size, is_tokens, tensors_of, with_rows
from .free_batch import with_free_batch
from .integers import Integers
from .onnx_quantized import quantized_graph
from .trace import reads_values

BATCHES = 2, 5
"""That a file with a free batch is traced with. A batch of one would be taken for a constant."""
MOST_WEIGHTS = 2**26
"""Parameters of a net that is traced so: two files of it are in memory at a time."""


def to_onnx(
    module: nn.Module,
    example: Inputs,
    *,
    free_batch: bool = False,
    free_length: bool = False,
    unsigned: bool = True,
) -> bytes:
    """The module (in its current mode) as an ONNX file, with inputs and outputs named as keywords and outputs are.

    example: a tensor is the one argument, a sequence all arguments, a mapping all keywords.
    free_batch: the first dimension of `example` stays free, for a file to ship; of several inputs that of those that
        share the size of the first one. Otherwise all shapes are fixed. Files are made by the TorchScript exporter, a
        free batch out of two fixed ones, and by the newer one where that cannot translate the module: it takes 15
        times as long, and with a free batch ONNX Runtime folds less of its graph (3 to 15 % slower at batch 1).
    free_length: with a free batch, also the second dimension of whole numbers (tokens and their masks) stays free.
    A module with a quantization policy is written as `quantized_onnx` does it, with made-up scales.
    Error: the module does not take the example, or cannot be translated.
    """
    if policy_of(module):
        return quantized_onnx(module, example, free_batch=free_batch, free_length=free_length, unsigned=unsigned)
    return _translated(module, example, free_batch, free_length, fold=True)


def quantized_onnx(
    module: nn.Module,
    example: Inputs,
    parts: Mapping[str, Integers] | None = None,
    *,
    free_batch: bool = False,
    free_length: bool = False,
    unsigned: bool = True,
) -> bytes:
    """The module as an ONNX file with its quantization policy carried out (see `onnx_quantized`).

    parts: codes and scales by the module's name; weights of 16 bits need none. None: plausible ones, for a file that
        is only timed.
    unsigned: weights of 8 bits beside activations of 8 are unsigned codes, whose sums are exact wherever ONNX Runtime
        runs. False: signed ones, which TensorRT and NPUs need and which are faster on x86 with VNNI; without VNNI
        their sums saturate.
    Errors: those of `to_onnx`; a scheme that runtimes have no kernel for; a part without its codes.
    """
    content = _translated(module, example, free_batch, free_length, fold=False)
    return quantized_graph(content, module, parts, unsigned=unsigned)


def _translated(module: nn.Module, example: Inputs, free_batch: bool, free_length: bool, *, fold: bool) -> bytes:
    """fold: compute what is constant; else parameters keep their names and shapes, and runtimes do it at load."""
    # torch's own code for projections cannot be traced by the TorchScript exporter
    flat = Flat.of(with_projections(module), example)
    with quiet(), unfused(), torch.no_grad():
        if free_batch:
            made = _freed(flat) if fold and not free_length else None
            return made or _program(exported(flat.module, flat.tensors, free_length=free_length), flat, fold)
        try:
            return _scripted(flat, fold)
        except Exception:  # what is not in its tables; it has no error of its own for that
            return _program(exported(flat.module, flat.tensors, free_batch=False), flat, fold)


def _freed(flat: Flat) -> bytes | None:
    """With a free batch, several times as fast as `_program`. None: only that can translate the module.

    What a forward decides by values would be a constant here; one that runs without values decides nothing by them.
    """
    weights = sum(p.numel() for p in flat.module.parameters())
    if weights > MOST_WEIGHTS or reads_values(flat.module, flat.tensors):
        return None
    try:
        one, other = (_scripted(replace(flat, tensors=with_rows(flat.tensors, rows)), fold=True) for rows in BATCHES)
        return with_free_batch(one, other, BATCHES[0])
    except Exception:  # as in `_translated`
        return None


def exported(
    module: nn.Module, example: Inputs, *, free_batch: bool = True, free_length: bool = False
) -> torch.export.ExportedProgram:
    """The traced program. Two rows are traced for a free batch: a batch of one would be taken for a constant.

    Error: the module cannot be traced, or not for any batch.
    """
    inputs = with_rows(example, 2) if free_batch else example
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    if free_batch:
        batch = torch.export.Dim("batch", min=1)
        for own, x in zip(tensors_of(example), tensors_of(inputs), strict=True):
            if own.dim() and len(own) == batch_size(example):
                shapes[x] = {0: batch} | ({1: torch.export.Dim.DYNAMIC} if free_length and is_tokens(x) else {})
    args, keywords = arguments(inputs)
    try:
        with quiet():
            return torch.export.export(module, args, keywords, dynamic_shapes=shapes if free_batch else None)
    except Exception as error:
        raise _untranslated(error, free_batch) from error


def _untranslated(error: Exception, free_batch: bool) -> UserError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    hint = "; the formats onnx-fixed and safetensors ask for less" if free_batch else ""
    return UserError(f"torch cannot translate the module: {type(error).__name__}: {shorten(first, 300)}{hint}")


def _scripted(flat: Flat, fold: bool) -> bytes:
    buffer = io.BytesIO()
    names: dict[str, Any] = {"input_names": flat.inputs, "output_names": flat.outputs}
    torch.onnx.export(flat.module, flat.tensors, buffer, dynamo=False, do_constant_folding=fold, **names)  # type: ignore[arg-type]  # files too, its docs say
    return buffer.getvalue()


def _program(program: torch.export.ExportedProgram, flat: Flat, fold: bool) -> bytes:
    return program_to_onnx(program, flat.inputs, flat.outputs, fold=fold)


def program_to_onnx(
    program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], *, fold: bool = True
) -> bytes:
    """The traced program as an ONNX file; inputs, outputs: names, in their order. Error: it cannot be translated."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass  # slow to import

    names: dict[str, Any] = {"input_names": inputs, "output_names": outputs}
    try:
        onnx = torch.onnx.export(program, dynamo=True, verbose=False, optimize=fold, **names)
    except Exception as error:
        raise _untranslated(error, free_batch=False) from error
    if onnx is None:
        raise UserError("torch could not translate this module to ONNX")
    if not fold:
        _compute_shapes(onnx.model)
    ClearMetadataAndDocStringPass()(onnx.model)  # stack traces of every node: more bytes than a small net's weights
    content: bytes = onnx.model_proto.SerializeToString()
    return content


def _compute_shapes(model: Any) -> None:
    """Compute what is constant, but for what reads a parameter: a third of the nodes, which deal with known shapes."""
    from onnxscript.optimizer import fold_constants, remove_unused_nodes  # slow to import
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules.common import materialize_reshape_shape_rule

    def should_fold(node: Any) -> bool | None:
        return False if any(v is not None and v.is_initializer() for v in node.inputs) else None

    for _ in range(2):
        fold_constants(model, onnx_shape_inference=True, should_fold=should_fold)
        rewrite(model, [materialize_reshape_shape_rule])
    remove_unused_nodes(model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch's exporters print their progress and warn of their own internals; none of it helps a user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    # The first exporter logs the whole graph of a net that it refuses, and switches its log on by itself.
    log = patch.object(torch._C, "_jit_onnx_log", lambda *_: None)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), log:
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
