"""A quantized net in PyTorch's own kernels: its codes and scales, as they are, in the tensors of torchao.

    linear layers beside activations of 8 bits     products of integers; the scale of the input is the calibrated one
    other linear layers, embeddings, convolutions  codes in a byte each, decoded to floats at each call
    weights of 16 bits, 1-d convolutions, modules  floats, as in the twin
    with a forward of their own

Sums of products of 8 bits may saturate on x86 processors without VNNI (as torchao says of `reduce_range`).
"""

import warnings
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
    """A copy of the twin whose parts hold codes. It warns of parts with codes that have to stay floats.

    Weights decode to the bit. Where integers are multiplied, a number between two codes may go either way.
    Error: torchao is missing or too old.
    """
    library, net = _library(), deepcopy(quantized.twin)
    coded = {name: part for name, part in quantized.parts.items() if part.weight and part.codes is not None}
    floats = [n for n in coded if type(net.get_submodule(n)).forward not in {kind.forward for kind in KINDS}]
    for name in coded.keys() - floats:
        _hold(net.get_submodule(name), coded[name], library)
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


def _hold(module: Any, part: Part, library: Any) -> None:
    if isinstance(module, nn.Linear) and part.activation is not None and part.activation.bits == 8:
        module._forward_pre_hooks.clear()  # the tensor rounds the input
        module.__class__ = _ByRows
        weight = _integers(part, part.activation, library)
    else:
        weight = _codes(part, library)
    module.weight = nn.Parameter(weight, requires_grad=False)


def _integers(part: Part, activation: Affine, library: Any) -> Any:
    """Weight and input in int8; torchao has no unsigned inputs, so that theirs are moved by 128."""
    codes, scale = _blocks(part)
    static = library.Int8StaticActivationInt8WeightConfig(
        granularity=[library.PerTensor(), library.PerRow()], act_mapping_type=library.MappingType.ASYMMETRIC
    )
    return library.Int8Tensor(
        codes,
        scale,
        [1, codes.shape[1]],
        torch.float32,
        act_quant_scale=activation.scale.reshape(1, 1),
        act_quant_zero_point=(activation.zero - activation.low - 128).to(torch.int8).reshape(1, 1),
        act_quant_kwargs=static.get_act_quant_kwargs(),
    )


def _codes(part: Part, library: Any) -> Any:
    codes, scale = _blocks(part)
    sizes = tuple(n // blocks for n, blocks in zip(codes.shape, scale.shape, strict=True))
    zero, kind = torch.zeros_like(scale, dtype=torch.int8), getattr(torch, f"int{part.scheme.weights}")
    return library.IntxUnpackedToInt8Tensor(codes, scale, zero, kind, sizes, torch.float32, None)


def _blocks(part: Part) -> tuple[Tensor, Tensor]:
    """Codes, and a scale for each block of them: (rows, 1, ...), or (rows, blocks) where the weight has groups.

    Where the last group is a shorter one, blocks are as long as divides both.
    """
    assert part.weight is not None
    assert part.codes is not None
    codes, scale, group = part.codes, part.weight.scale, part.weight.group
    if group is None:
        return codes, scale.expand(len(codes)).reshape(-1, *[1] * (codes.dim() - 1)).clone()
    size = gcd(group, codes.shape[1])
    return codes, scale.repeat_interleave(group // size, dim=1)[:, : codes.shape[1] // size].contiguous()
