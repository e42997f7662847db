"""A quantized net as tensors to store: codes of 4 bits two in a byte, scales, and the floats that are left."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.quantization import Scheme, policy_of
from .quantized import Part, Quantized, apply
from .quantizers import Affine

ALIGNED = 8
"""Bytes that the header of a safetensors file is filled up to a multiple of."""
CODES, SCALE, ACTIVATION = "codes", "scale", "activation"
HALF_BYTE = 4


def to_tensors(quantized: Quantized) -> dict[str, Tensor]:
    """By name: `NAME.weight.codes` (bytes), `.scale`, `NAME.activation` (scale, zero) of each part; the rest as it is.

    Weights of 16 bits and scales of weights are stored in half precision: scales are found so. A weight that two parts
    share is stored with each.
    """
    return {n: t.detach().contiguous().cpu().clone() for n, t in _tensors(quantized).items()}


def _tensors(quantized: Quantized) -> dict[str, Tensor]:
    net, found = quantized.twin, dict[str, Tensor]()
    named = {**dict(net.named_parameters(remove_duplicate=False)), **dict(net.named_buffers())}
    for name, part in quantized.parts.items():
        weight = named.pop(_inside(name, "weight"))
        if part.weight is None or part.codes is None:
            found[_inside(name, "weight")] = weight.half()
        else:
            found[_inside(name, f"weight.{CODES}")] = pack(part.codes, part.weight.bits)
            found[_inside(name, f"weight.{SCALE}")] = part.weight.scale.half()
        if part.activation is not None:
            values = torch.stack([part.activation.scale, part.activation.zero.to(part.activation.scale.dtype)])
            found[_inside(name, ACTIVATION)] = values
    held = {id(quantized.twin.get_submodule(name).weight) for name in quantized.parts}  # under other names too
    return {**{name: tensor for name, tensor in named.items() if id(tensor) not in held}, **found}


def packed_bytes(net: nn.Module) -> int:
    """Bytes of the file that `to_tensors` of this net would make, from its shapes and its policy alone.

    `net` may be on the meta device. A part that is never called is counted as if it were.
    """
    parts = {name: _blank(net.get_submodule(name), scheme) for name, scheme in policy_of(net).items()}
    return _file_bytes(_tensors(Quantized(net, parts)))


def _blank(module: Any, scheme: Scheme) -> Part:
    """A part with everything but numbers."""
    shape, one, affine, codes = module.weight.shape, torch.empty((), device="meta"), None, None
    if scheme.weights < 16:
        groups = () if scheme.group is None or len(shape) > 2 else (-(-shape[1] // scheme.group),)
        affine = weight_affine(scheme, torch.empty(shape[0], *groups, device="meta"))
        codes = torch.empty(shape, dtype=torch.int8, device="meta")
    rounded = scheme.activations < 16 and not isinstance(module, nn.Embedding)
    return Part(scheme, affine, codes, Affine(scheme.activations, one, one, signed=False) if rounded else None)


def _place(item: tuple[str, Tensor]) -> tuple[int, str, str]:
    """Where safetensors puts a tensor: the widest numbers first, of equals floats, signed and unsigned integers."""
    return -item[1].element_size(), str(item[1].dtype), item[0]


def _file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Of a safetensors file: the length of the header, the header, the tensors."""
    header, at = dict[str, object](), 0
    for name, tensor in sorted(tensors.items(), key=_place):
        kind, end = "F" if tensor.is_floating_point() else "I", at + tensor.nbytes
        header[name] = {
            "dtype": f"{kind}{8 * tensor.element_size()}",
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return ALIGNED + -(-length // ALIGNED) * ALIGNED + at


def from_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> Quantized:
    """The other way round; `net` has the policy at its parts, and is filled in place. Error: names that do not fit."""
    policy, left, parts = policy_of(net), dict(tensors), dict[str, Part]()
    named: dict[str, Tensor] = {**dict(net.named_parameters(remove_duplicate=False)), **dict(net.named_buffers())}
    try:
        for name, scheme in policy.items():
            module: Any = net.get_submodule(name)
            weight, codes = named.pop(_inside(name, "weight")), None
            affine, activation = None, None
            if scheme.weights == 16:
                weight.data.copy_(left.pop(_inside(name, "weight")))
            else:
                scale = left.pop(_inside(name, f"weight.{SCALE}")).float()
                packed = left.pop(_inside(name, f"weight.{CODES}"))
                codes = unpack(packed, scheme.weights, module.weight.shape)
                affine = weight_affine(scheme, scale)
            if _inside(name, ACTIVATION) in left:
                step, zero = left.pop(_inside(name, ACTIVATION))
                activation = Affine(scheme.activations, step, zero.to(torch.int32), signed=False)
            parts[name] = Part(scheme, affine, codes, activation)
        held = {id(net.get_submodule(name).weight) for name in policy}
        for name, tensor in named.items():
            if id(tensor) not in held:
                tensor.data.copy_(left.pop(name))
    except (KeyError, RuntimeError) as error:
        raise UserError(f"the stored tensors do not fit the quantized net: {error}") from error
    if left:
        raise UserError(f"the stored tensors do not fit the quantized net: {', '.join(sorted(left)[:4])} are too many")
    return apply(net, parts)


def weight_affine(scheme: Scheme, scale: Tensor) -> Affine:
    """How symmetric codes of a weight are read: a scale for all, for each row, or for each group of a row."""
    along = {"group": scheme.group} if scale.dim() == 2 else {"axis": 0} if scale.dim() == 1 else {}
    return Affine(scheme.weights, scale, torch.zeros_like(scale, dtype=torch.int32), signed=True, **along)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Signed codes as bytes, flat: two in each where they have 4 bits or less, the first in its lower half."""
    flat = codes.flatten().to(torch.int16)
    if bits > HALF_BYTE:
        return flat.to(torch.int8)
    even = torch.cat([flat, flat.new_zeros(len(flat) % 2)]) & 15
    return (even[0::2] | (even[1::2] << 4)).to(torch.uint8)


def unpack(packed: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """What `pack` packed, in its shape (int8)."""
    if bits > HALF_BYTE:
        return packed.view(shape)
    wide = packed.to(torch.int16)
    halves = torch.stack([wide & 15, wide >> 4], dim=1).flatten()[: shape.numel()]
    return torch.where(halves > 7, halves - 16, halves).to(torch.int8).view(shape)


def _inside(name: str, local: str) -> str:
    return f"{name}.{local}" if name else local
