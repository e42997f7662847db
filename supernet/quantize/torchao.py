"""A quantized net in PyTorch's own kernels: its codes and scales, as they are, in the tensors of torchao.

    linear layers beside activations of 8 bits     products of integers; the scale of the input is the calibrated one
    (weights without zero points)
    other linear layers, embeddings, convolutions  codes in a byte each, decoded to floats at each call
    floats of 8 and 16 bits, 1-d convolutions,     floats, as in the module
    modules with a forward of their own

Sums of products of 8 bits may saturate on x86 processors without VNNI (as torchao says of `reduce_range`).
"""

import warnings
from collections.abc import Collection
from copy import deepcopy
from importlib import import_module
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from .quantized import Part, Quantized
from .quantizers import Affine

KINDS = (nn.Linear, nn.Conv2d, nn.Embedding)
"""Modules whose weights torchao's tensors can be."""


@torch.no_grad()
def held_by_torchao(quantized: Quantized) -> nn.Module:
    """A copy of the module whose parts hold codes. It warns of parts with codes that have to stay floats.

    Weights decode to the bit. Where integers are multiplied, a number between two codes may go either way.
    Error: torchao is missing or too old.
    """
    library, net = _library(), deepcopy(quantized.module)
    coded = {name: part for name, part in quantized.parts.items() if part.weight and part.codes is not None}
    forwards = {kind.forward for kind in KINDS}
    floats = [name for name, part in coded.items() if not _hold(net.get_submodule(name), part, library, forwards)]
    if floats:
        warnings.warn(f"torchao cannot hold the codes of {', '.join(floats)}: these stay decoded floats", stacklevel=2)
    return net


def _library() -> Any:
    try:
        library: Any = import_module("torchao.quantization")
        _ = library.Int8Tensor, library.IntxUnpackedToInt8Tensor, library.Int8StaticActivationInt8WeightConfig
        return library
    except (ImportError, AttributeError):
        raise UserError('this needs torchao 0.18 or newer; install it: pip install "nas[torchao]"') from None


class _ByRows(nn.Linear):
    """For torchao's static scales, which want as many dimensions as the input has."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, input.shape[-1]).contiguous()
        return super().forward(rows).reshape(*input.shape[:-1], -1)


def _hold(module: Any, part: Part, library: Any, forwards: Collection[Any]) -> bool:
    """Whether the module could be made to hold the codes of its part."""
    weight, activation = part.weight, part.activation
    if not isinstance(weight, Affine) or type(module).forward not in forwards:
        return False
    integers = isinstance(module, nn.Linear) and not weight.zero.any()
    if integers and isinstance(activation, Affine) and activation.bits == 8:
        module._forward_pre_hooks.clear()  # the tensor rounds the input
        module.__class__ = _ByRows
        tensor = _integers(part.codes, weight, activation, library)
    else:
        tensor = _codes(part.codes, weight, library)
    module.weight = nn.Parameter(tensor, requires_grad=False)
    return True


def _integers(codes: Any, weight: Affine, activation: Affine, library: Any) -> Any:
    """Weight and input in int8; torchao has no unsigned inputs, so that theirs are moved by 128."""
    static = library.Int8StaticActivationInt8WeightConfig(
        granularity=[library.PerTensor(), library.PerRow()], act_mapping_type=library.MappingType.ASYMMETRIC
    )
    return library.Int8Tensor(
        codes,
        _blocks(codes, weight.scale, None),
        [1, codes.shape[1]],
        torch.float32,
        act_quant_scale=activation.scale.reshape(1, 1),
        act_quant_zero_point=(activation.zero - activation.low - 128).to(torch.int8).reshape(1, 1),
        act_quant_kwargs=static.get_act_quant_kwargs(),
    )


def _codes(codes: Any, weight: Affine, library: Any) -> Any:
    scale, zero = (_blocks(codes, values, weight.group) for values in (weight.scale, weight.zero.to(torch.int8)))
    sizes = tuple(n // blocks for n, blocks in zip(codes.shape, scale.shape, strict=True))
    kind = getattr(torch, f"int{weight.bits}")
    return library.IntxUnpackedToInt8Tensor(codes, scale, zero, kind, sizes, torch.float32, None)


def _blocks(codes: Tensor, values: Tensor, group: int | None) -> Tensor:
    """Scales or zeros, one for each block: (rows, 1, ...), or (rows, blocks) where the weight has groups.

    Where the last group is a shorter one, blocks are as long as divides both.
    """
    if group is None:
        return values.expand(len(codes)).reshape(-1, *[1] * (codes.dim() - 1)).clone()
    size = gcd(group, codes.shape[1])
    return values.repeat_interleave(group // size, dim=1)[:, : codes.shape[1] // size].contiguous()
