"""Quantization policies as genes: how many bits each part of a net is stored and computed with.

`space.quantized(...)` is the same space with a gene more for each group of linear layers, convolutions and embeddings.
The user's modules are not changed: a module that the policy speaks of carries its `Scheme` as an attribute, and what
to do about it is decided where nets are evaluated and shipped. Parameters keep names and shapes, so a supernet that was
trained for the space serves the quantized one (SimQ-NAS, Rao et al. 2023: architecture and policy in one search).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

from ..errors import UserError
from .projections import is_called, open_projections
from .trial import Trial

Granularity = Literal["layer", "block", "linear"]
GRANULARITIES: tuple[Granularity, ...] = ("layer", "block", "linear")
QUANTIZABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
GENE = "quantize."
"""Begins the name of every gene of a policy."""
WEIGHT_BITS, ACTIVATION_BITS = (2, 3, 4, 5, 6, 7, 8, 16), (2, 3, 4, 5, 6, 7, 8, 16)
SHIPPED_ACTIVATIONS = (8, 16)
"""What runtimes have kernels for."""
GROUP = 32
"""Weights of 4 bits or less that share a scale, where nothing else is said."""


@dataclass(frozen=True)
class Scheme:
    """Bits of the weights and of the activations that meet them; 16: a float of half precision.

    group: weights of a row that share a scale; None: a row (an output channel) has one.
    """

    weights: int = 16
    activations: int = 16
    group: int | None = None

    def __str__(self) -> str:
        return f"w{self.weights}a{self.activations}" + (f"g{self.group}" if self.group else "")


def parse_scheme(text: str) -> Scheme:
    """`w8a8`, `w4a16`, `w4a16g64`. Weights of 4 bits beside activations of 16 have groups of 32 if nothing is said."""
    match = re.fullmatch(r"w(\d+)a(\d+)(?:g(\d+))?", text.strip().lower())
    weights, activations = (int(match[1]), int(match[2])) if match else (0, 0)
    if weights not in WEIGHT_BITS or activations not in ACTIVATION_BITS or (weights == 16 and activations < 16):
        raise UserError(
            f"quantization {text!r} is not understood; write the bits of weights and activations as in w8a8, w4a16 or "
            "w4a16g64 (2 to 8 or 16; weights of 16 bits have activations of 16)"
        )
    given = int(match[3]) if match and match[3] else None
    if given is not None and (given < 8 or weights > 8 or activations < 16):
        raise UserError(f"quantization {text!r}: groups of 8 or more are right, for weights beside activations of 16")
    return Scheme(weights, activations, given or (GROUP if weights <= 4 and activations == 16 else None))


def schemes_of(weights: Sequence[int], activations: Sequence[int]) -> tuple[str, ...]:
    """All pairs that make sense, the most bits first."""
    pairs = [(w, a) for w in sorted(set(weights), reverse=True) for a in sorted(set(activations), reverse=True)]
    return tuple(str(parse_scheme(f"w{w}a{a}")) for w, a in pairs if w < 16 or a == 16)


@dataclass(frozen=True)
class Quantization:
    """What a policy may choose: `schemes` (as `parse_scheme` reads them) for each group of modules.

    granularity: one gene for each "layer" (`layers.3`), "block" (`layers.3.mixer`: what lies in one module) or
    "linear" (each module by itself). keep: patterns of module names that stay as they are.
    """

    schemes: tuple[str, ...]
    granularity: Granularity = "block"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise UserError(f"granularity {self.granularity!r} is unknown; valid: {', '.join(GRANULARITIES)}")
        if not self.schemes:
            raise UserError("a quantization needs at least one scheme, such as w8a8")
        object.__setattr__(self, "schemes", tuple(dict.fromkeys(str(parse_scheme(s)) for s in self.schemes)))

    def check(self, modules: Iterable[nn.Module]) -> None:
        """Errors: nets with a policy already, nothing to quantize, a pattern that names nothing in any of them."""
        modules = list(modules)
        for module in modules:
            open_projections(module)
        if any(map(policy_of, modules)):
            raise UserError("the space is quantized already and takes no second policy; search it without --quantize")
        names = {name for module in modules for name in quantizable(module)}
        if not names:
            raise UserError("the space has no linear layer, convolution or embedding to quantize")
        for pattern in self.keep:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(f"keep={pattern!r} names no linear layer, convolution or embedding of the space")

    def ask(self, module: nn.Module, trial: Trial) -> None:
        """Let the trial choose, and note the schemes at the parts of the module."""
        open_projections(module)
        for name, part in quantizable(module).items():
            if not any(fnmatchcase(name, pattern) for pattern in self.keep):
                gene = GENE + group_of(name, self.granularity)
                vars(part)["quantization"] = parse_scheme(str(trial.suggest_categorical(gene, self.schemes)))


def quantization_of(text: str) -> Quantization:
    """What a user writes of nets to ship: `w4a8` (for all), `w8a8,w4a16` (a choice for each block), or `auto`.

    Errors: those of `parse_scheme`; activations that no runtime has kernels for.
    """
    if text.strip().lower() == "auto":
        return Quantization(schemes_of((4, 8, 16), SHIPPED_ACTIVATIONS))
    for scheme in map(parse_scheme, text.split(",")):
        if scheme.activations not in SHIPPED_ACTIVATIONS:
            raise UserError(
                f"{scheme} can be evaluated and not shipped: no runtime here has kernels for activations of "
                f"{scheme.activations} bits; 8 or 16 are right, as in w{scheme.weights}a8"
            )
    return Quantization(tuple(text.split(",")))


def policy_genes(names: Iterable[str]) -> list[str]:
    """Those of these genes that are of a policy."""
    return [name for name in names if name.startswith(GENE)]


def policy_of(module: nn.Module) -> dict[str, Scheme]:
    """The scheme of every module that has one, by name."""
    return {name: s for name, part in module.named_modules() for s in [vars(part).get("quantization")] if s is not None}


def group_of(name: str, granularity: Granularity) -> str:
    """The name of the group that a module belongs to."""
    parts = (name or "net").split(".")
    if granularity == "linear" or len(parts) == 1:
        return ".".join(parts)
    if granularity == "block":
        return ".".join(parts[:-1])
    numbered = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbered[0] + 1]) if numbered else parts[0]


def quantizable(root: nn.Module) -> dict[str, nn.Module]:
    """The parts that a policy can speak of, by name."""
    return {name: part for name, part in root.named_modules() if isinstance(part, QUANTIZABLE) and is_called(part)}
