"""A net with its policy applied: the codes to ship, and the twin that computes what integer kernels compute."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...hw_profiles.cost.integers import Integers
from ...search_space.quantization import Scheme
from .quantizers import Affine


@dataclass(frozen=True, eq=False)
class Part:
    """One linear layer, convolution or embedding.

    weight and codes: how its weights are read, and the integers that are stored; None for weights of 16 bits, which are
    floats of half precision. activation: of what comes in (one scale for the whole tensor); None: it stays a float.
    """

    scheme: Scheme
    weight: Affine | None = None
    codes: Tensor | None = None
    activation: Affine | None = None


@dataclass(frozen=True, eq=False)
class Quantized:
    """twin: the net in floats, its weights decoded, the inputs of its parts rounded; an ordinary module, to evaluate.

    parts: by the names of the modules in the twin. What is in no part is as it was.
    """

    twin: nn.Module
    parts: Mapping[str, Part] = field(default_factory=dict)

    def floats(self) -> nn.Module:
        """The twin without the rounding of inputs, a copy: what an exporter translates before it adds the parts."""
        net = deepcopy(self.twin)
        for name in self.parts:
            net.get_submodule(name)._forward_pre_hooks.clear()
        return net

    def integers(self) -> dict[str, Integers]:
        """What a file needs of the parts whose weights are integers."""
        return {n: _integers(p, p.weight, p.codes) for n, p in self.parts.items() if p.weight and p.codes is not None}


def _integers(part: Part, weight: Affine, codes: Tensor) -> Integers:
    def each_row(values: Tensor) -> Any:
        return (values.expand(len(codes)) if values.dim() == 0 else values).cpu().numpy()

    x = part.activation
    return Integers(
        part.scheme,
        codes.cpu().numpy(),
        each_row(weight.scale).astype(np.float32),
        each_row(weight.zero),
        None if x is None else (float(x.scale), int(x.zero), x.signed),
    )


def apply(net: nn.Module, parts: Mapping[str, Part]) -> Quantized:
    """The net, changed in place, with these parts."""
    with torch.no_grad():
        for name, part in parts.items():
            module: Any = net.get_submodule(name)
            if part.weight is not None and part.codes is not None:
                module.weight.copy_(part.weight.decode(part.codes))
            elif part.scheme.weights == 16:
                module.weight.copy_(module.weight.half().float())
            if part.activation is not None:
                module.register_forward_pre_hook(partial(_round_input, part.activation))
    return Quantized(net, parts)


def _round_input(activation: Affine, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    del module
    return (activation(inputs[0]), *inputs[1:])
