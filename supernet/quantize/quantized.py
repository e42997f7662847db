"""A net with its policy applied: the codes to ship, and the module that computes what integer kernels compute."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import NotFinite
from ...hw_profiles.cost.integers import Integers, beyond_half
from ...search_space.quantization import Scheme
from .floats import Float8
from .quantizers import Affine, Dynamic, LogSqrt2
from .softmax import Rounding, let_softmax, round_softmax

Quantizer = Affine | Float8
HALVES = {None: torch.float16, "bf16": torch.bfloat16}
"""How weights of 16 bits are stored, by the format of their scheme."""


@dataclass(frozen=True, eq=False)
class Part:
    """One linear layer, convolution or embedding.

    scheme: as it was carried out: whole, zeros and signed are those of `weight` and `activation`. weight and codes: how
    its weights are read, and the codes that are stored; None for weights of 16 bits, which are floats of half
    precision. activation: of what comes in (one scale for the whole tensor, or dynamic); None: it stays a float.
    folded: whether the norm before it has taken up a scale for each channel; files do not say that.
    """

    scheme: Scheme
    weight: Quantizer | None = None
    codes: Tensor | None = None
    activation: Quantizer | Dynamic | None = None
    folded: bool = False


@dataclass(frozen=True, eq=False)
class Quantized:
    """module: the net in floats, its weights decoded, the inputs of its parts rounded; an ordinary module, to evaluate.

    parts: by the names of the modules in it. What is in no part is as it was. softmax: how softmax outputs are
    rounded, by the names of the modules that compute them.
    """

    module: nn.Module
    parts: Mapping[str, Part] = field(default_factory=dict)
    softmax: Mapping[str, Rounding] = field(default_factory=dict)

    def floats(self) -> nn.Module:
        """A copy without fake-quantized inputs: what an exporter translates before it adds the parts."""
        net = deepcopy(self.module)
        for name in self.parts:
            net.get_submodule(name)._forward_pre_hooks.clear()
        for name in self.softmax:
            let_softmax(net.get_submodule(name))
        return net

    def policy(self) -> dict[str, dict[str, str]]:
        """How each part is quantized, in words: its weights, its activations; and softmax outputs by module."""
        words = {name: _words(part) for name, part in self.parts.items()}
        return words | {name: {"softmax": _softmax_words(q)} for name, q in self.softmax.items()}

    def integers(self) -> dict[str, Integers]:
        """What a file needs of the parts whose weights are codes."""
        return {n: _integers(p, p.weight, p.codes) for n, p in self.parts.items() if p.weight and p.codes is not None}


def _words(part: Part) -> dict[str, str]:
    weights = f"{part.scheme.format or 'fp16'} numbers" if part.weight is None else _quantizer_words(part.weight)
    activations = "floats" if part.activation is None else _quantizer_words(part.activation)
    return {"weights": weights, "activations": activations + (", each channel's in the norm" if part.folded else "")}


def _quantizer_words(quantizer: Quantizer | Dynamic) -> str:
    if isinstance(quantizer, Dynamic):
        return f"{quantizer.bits} bits, one scale for {quantizer.group} of a token, found as it comes"
    if isinstance(quantizer, Float8):
        return f"fp8 numbers, one scale {'a row' if quantizer.scale.dim() else 'for all'}"
    middle = 0 if quantizer.signed else 2 ** (quantizer.bits - 1)
    along = f"for {quantizer.group} of a row" if quantizer.group else "for all" if quantizer.axis is None else "a row"
    return f"{quantizer.bits} bits, one scale {along}, {'' if (quantizer.zero == middle).all() else 'a'}symmetric"


def _softmax_words(rounding: Rounding) -> str:
    kind = "powers of sqrt(2)" if isinstance(rounding, LogSqrt2) else "one scale for all"
    return f"{rounding.bits} bits, {kind}"


def _integers(part: Part, weight: Quantizer, codes: Tensor) -> Integers:
    def each_row(values: Tensor) -> Any:
        return (values.expand(len(codes)) if values.dim() == 0 else values).cpu().numpy()

    zero = weight.zero if isinstance(weight, Affine) else torch.zeros_like(weight.scale, dtype=torch.int32)
    return Integers(
        part.scheme,
        codes.view(torch.int8).cpu().numpy() if isinstance(weight, Float8) else codes.cpu().numpy(),
        each_row(weight.scale).astype(np.float32),
        each_row(zero),
        None if part.activation is None or isinstance(part.activation, Dynamic) else _input(part.activation),
    )


def _input(activation: Quantizer) -> tuple[float, int, bool]:
    if isinstance(activation, Float8):
        return float(activation.scale), 0, True
    return float(activation.scale), int(activation.zero), activation.signed


def apply(net: nn.Module, parts: Mapping[str, Part], softmax: Mapping[str, Rounding] | None = None) -> Quantized:
    """The net, changed in place, with these parts and with softmax outputs rounded by these."""
    with torch.no_grad():
        for name, part in parts.items():
            module: Any = net.get_submodule(name)
            values = decoded(part, module.weight)
            if not values.isfinite().all():
                raise _not_finite(name, part, module.weight)
            module.weight.copy_(values)
            if part.activation is not None:
                module.register_forward_pre_hook(partial(_round_input, part.activation))
    for name, rounding in (softmax or {}).items():
        round_softmax(net.get_submodule(name), rounding)
    return Quantized(net, parts, softmax or {})


def _not_finite(name: str, part: Part, weight: Tensor) -> NotFinite:
    if part.weight is None:
        return beyond_half(name, "weights", float(weight.min()), float(weight.max()))
    return NotFinite(
        f"the scales of {name or 'the net'} as {part.scheme.text} are not finite: they are stored in half precision, "
        "which holds numbers up to 65,504"
    )


def decoded(part: Part, weight: Tensor) -> Tensor:
    """What a part has in place of `weight`."""
    if part.weight is None or part.codes is None:
        return half(weight, part.scheme) if part.scheme.weights == 16 else weight
    return part.weight.decode(part.codes)


def half(weight: Tensor, scheme: Scheme) -> Tensor:
    """Weights of 16 bits as they are stored."""
    return weight.to(HALVES[scheme.format]).float()


def _round_input(activation: Quantizer | Dynamic, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    del module
    return (activation(inputs[0]), *inputs[1:])
