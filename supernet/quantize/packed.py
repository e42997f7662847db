"""A quantized net as tensors to store: codes of few bits several in a byte, scales, and the floats that are left."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.quantization import Scheme, policy_of
from .floats import Float8
from .quantized import HALVES, Part, Quantized, Quantizer, apply
from .quantizers import Affine, Dynamic, LogSqrt2
from .softmax import Rounding, sites

ALIGNED = 8
"""Bytes that the header of a safetensors file is filled up to a multiple of."""
CODES, SCALE, ZERO, ACTIVATION = "codes", "scale", "zero", "activation"
SOFTMAX = "quantize.softmax"
"""(modules that may compute a softmax in few bits, 2): its kind and scale. Of all such modules, so that the size of a
file is known of a net that has not run."""
FLOAT, POWERS, UNIFORM = range(3)
BYTE = 8
DTYPES = {torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3"}


def to_tensors(quantized: Quantized) -> dict[str, Tensor]:
    """By name: `NAME.weight.codes` (bytes), `.scale`, `.zero` (packed as codes are, where the scheme has zeros),
    `NAME.activation` (scale and zero; signed codes: scale alone) of each part; the rest as it is.

    Weights of 16 bits and scales of weights are stored in half precision: scales are found so. A weight that two parts
    share is stored with each.
    """
    return {n: t.detach().contiguous().cpu().clone() for n, t in _tensors(quantized).items()}


def _tensors(quantized: Quantized) -> dict[str, Tensor]:
    net, result = quantized.module, dict[str, Tensor]()
    named = {**dict(net.named_parameters(remove_duplicate=False)), **dict(net.named_buffers())}
    for name, part in quantized.parts.items():
        weight = named.pop(_inside(name, "weight"))
        if part.weight is None or part.codes is None:
            result[_inside(name, "weight")] = weight.to(HALVES[part.scheme.format])
        else:
            result[_inside(name, f"weight.{CODES}")] = pack(part.codes, part.scheme.weights)
            result[_inside(name, f"weight.{SCALE}")] = part.weight.scale.half()
            if isinstance(part.weight, Affine) and part.scheme.zeros:
                result[_inside(name, f"weight.{ZERO}")] = pack(part.weight.zero, part.scheme.weights)
        if part.activation is not None and not isinstance(part.activation, Dynamic):
            result[_inside(name, ACTIVATION)] = torch.stack(_numbers(part.scheme, part.activation))
    places = sites(net)
    if places:
        result[SOFTMAX] = torch.tensor([_softmax_row(quantized.softmax.get(name)) for name in places])
    held = {id(net.get_submodule(name).weight) for name in quantized.parts}  # under other names too
    return {**{name: tensor for name, tensor in named.items() if id(tensor) not in held}, **result}


def _numbers(scheme: Scheme, activation: Quantizer) -> list[Tensor]:
    """Scale and zero, if it may be another than 0: that of unsigned codes."""
    if isinstance(activation, Float8) or scheme.signed:
        return [activation.scale]
    unsigned = activation.zero + (1 << activation.bits - 1) * activation.signed
    return [activation.scale, unsigned.to(activation.scale.dtype)]


def _activation(scheme: Scheme, numbers: Tensor) -> Quantizer:
    """What `_numbers` are of."""
    if scheme.format == "fp8":
        return Float8(numbers[0])
    zero = torch.zeros_like(numbers[0]) if scheme.signed else numbers[1]
    return Affine(scheme.activations, numbers[0], zero.to(torch.int32), scheme.signed)


def _softmax_row(rounding: Rounding | None) -> list[float]:
    if rounding is None:
        return [float(FLOAT), 0.0]
    if isinstance(rounding, LogSqrt2):
        return [float(POWERS), float(rounding.delta)]
    return [float(UNIFORM), float(rounding.scale)]


def _softmax_from(kind: float, scale: Tensor, bits: int) -> Rounding:
    if kind == POWERS:
        return LogSqrt2(bits, scale)
    return Affine(bits, scale, torch.zeros_like(scale, dtype=torch.int32), signed=False)  # 0 is its least number


def packed_bytes(net: nn.Module) -> int:
    """Bytes of the file that `to_tensors` of this net would make, from its shapes and its policy alone.

    `net` may be on the meta device. A part that is never called is counted as if it were.
    """
    parts = {name: _blank(net.get_submodule(name), scheme) for name, scheme in policy_of(net).items()}
    return _file_bytes(_tensors(Quantized(net, parts)))


def _blank(module: Any, scheme: Scheme) -> Part:
    """A part with everything but numbers."""
    shape, weight, codes, activation = module.weight.shape, None, None, None
    if scheme.weights < 16:
        groups = () if scheme.group is None or len(shape) > 2 else (-(-shape[1] // scheme.group),)
        weight = weight_quantizer(scheme, torch.empty(() if scheme.whole else (shape[0], *groups), device="meta"))
        codes = torch.empty(shape, dtype=torch.float8_e4m3fn if scheme.format == "fp8" else torch.int8, device="meta")
    if scheme.activations < 16 and not scheme.dynamic and not isinstance(module, nn.Embedding):
        activation = _activation(scheme, torch.empty(1 if scheme.signed else 2, device="meta"))
    return Part(scheme, weight, codes, activation)


def _place(item: tuple[str, Tensor]) -> tuple[int, str, str]:
    """Where safetensors puts a tensor: the widest numbers first, of equals floats, signed and unsigned integers."""
    return -item[1].element_size(), str(item[1].dtype), item[0]


def _dtype(tensor: Tensor) -> str:
    """As the header of a safetensors file has it."""
    kind = "F" if tensor.is_floating_point() else "I"  # U is as long as I
    return DTYPES.get(tensor.dtype, f"{kind}{8 * tensor.element_size()}")


def _file_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Of a safetensors file: the length of the header, the header, the tensors."""
    header, at = dict[str, object](), 0
    for name, tensor in sorted(tensors.items(), key=_place):
        end = at + tensor.nbytes
        header[name] = {"dtype": _dtype(tensor), "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return ALIGNED + -(-length // ALIGNED) * ALIGNED + at


def from_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> Quantized:
    """The other way round; `net` has the policy at its parts, and is filled in place. Error: names that do not fit."""
    policy, left, parts = policy_of(net), dict(tensors), dict[str, Part]()
    named: dict[str, Tensor] = {**dict(net.named_parameters(remove_duplicate=False)), **dict(net.named_buffers())}
    try:
        for name, scheme in policy.items():
            weight = named.pop(_inside(name, "weight"))
            if scheme.weights == 16:
                weight.data.copy_(left.pop(_inside(name, "weight")))
            parts[name] = _read(name, scheme, weight.shape, left)
        held = {id(net.get_submodule(name).weight) for name in policy}
        for name, tensor in named.items():
            if id(tensor) not in held:
                tensor.data.copy_(left.pop(name))
        places = sites(net)
        floats = torch.zeros(len(places), 2)  # as files say that know nothing of it
        rows = zip(places.items(), left.pop(SOFTMAX, floats), strict=True)
        softmax = {n: _softmax_from(float(row[0]), row[1], bits) for (n, bits), row in rows if row[0] != FLOAT}
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"the stored tensors do not fit the quantized net: {error}") from error
    if left:
        raise UserError(f"the stored tensors do not fit the quantized net: {', '.join(sorted(left)[:4])} are too many")
    return apply(net, parts, softmax)


def _read(name: str, scheme: Scheme, shape: torch.Size, left: dict[str, Tensor]) -> Part:
    """A part, its tensors taken out of `left`."""
    weight, codes = None, None
    activation: Quantizer | Dynamic | None = None
    if scheme.weights < 16:
        scale = left.pop(_inside(name, f"weight.{SCALE}")).float()
        zero = left.pop(_inside(name, f"weight.{ZERO}"), None)
        codes = unpack(left.pop(_inside(name, f"weight.{CODES}")), scheme.weights, shape)
        whole = scale.dim() == 0
        scheme = replace(scheme, zeros=zero is not None, whole=whole, group=None if whole else scheme.group)
        weight = weight_quantizer(scheme, scale, None if zero is None else unpack(zero, scheme.weights, scale.shape))
    if _inside(name, ACTIVATION) in left:
        numbers = left.pop(_inside(name, ACTIVATION))
        scheme = replace(scheme, signed=len(numbers) == 1 and scheme.format is None)
        activation = _activation(scheme, numbers)
    elif scheme.dynamic and scheme.group:
        activation = Dynamic(scheme.activations, scheme.group)
    return Part(scheme, weight, codes, activation)


def weight_quantizer(scheme: Scheme, scale: Tensor, zero: Tensor | None = None) -> Quantizer:
    """How codes of a weight are read: a scale for all, for each row, or for each group of a row. zero: None: all 0."""
    if scheme.format == "fp8":
        return Float8(scale)
    along = {"group": scheme.group} if scale.dim() == 2 else {"axis": 0} if scale.dim() == 1 else {}
    zero = torch.zeros_like(scale) if zero is None else zero
    return Affine(scheme.weights, scale, zero.to(torch.int32), signed=True, **along)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes as bytes, flat: as many in each as there is room for (4 of 2 bits, 2 of 3 or 4), the first lowest."""
    if codes.is_floating_point():
        return codes.flatten()
    flat, width = codes.flatten().to(torch.int16), _width(bits)
    if width == BYTE:
        return flat.to(torch.int8)
    rows = torch.cat([flat, flat.new_zeros(-len(flat) % (BYTE // width))]).view(-1, BYTE // width)
    return ((rows & (1 << width) - 1) << _places(rows, width)).sum(1).to(torch.uint8)


def unpack(packed: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """What `pack` packed, in its shape (int8; e4m3 as it is)."""
    width = _width(bits)
    if width == BYTE:
        return packed.view(shape)
    rows, most = packed.to(torch.int16).unsqueeze(1), 1 << width
    result = (rows >> _places(rows, width) & most - 1).flatten()[: shape.numel()]
    return torch.where(result >= most // 2, result - most, result).to(torch.int8).view(shape)


def _width(bits: int) -> int:
    """Of what holds a code, in bits."""
    return next(width for width in (2, 4, BYTE) if bits <= width)


def _places(rows: Tensor, width: int) -> Tensor:
    """Where the codes of a byte begin."""
    return torch.arange(0, BYTE, width, dtype=rows.dtype, device=rows.device)


def _inside(name: str, local: str) -> str:
    return f"{name}.{local}" if name else local
