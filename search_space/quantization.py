"""Quantization policies as genes: how many bits each part of a net is stored and computed with.

`space.quantized(...)` is the same space with a gene more for each group of linear layers, convolutions and embeddings.
The user's modules are not changed (but torch's `MultiheadAttention` calls its projections, see `projections`): one that
the policy covers carries its `Scheme` as an attribute, and what to do about it is decided where nets are evaluated
and shipped. Parameters keep names and shapes, so a supernet that was trained for the space serves the quantized one
(SimQ-NAS, Rao et al. 2023: architecture and policy in one search).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UserError, quoted
from .architecture import GeneValue
from .trial import Gene, Trial

if TYPE_CHECKING:  # policies are read before torch is imported, which takes seconds
    from torch import nn

Granularity = Literal["layer", "block", "linear"]
GRANULARITIES: tuple[Granularity, ...] = ("layer", "block", "linear")
GENE = "quantize."
"""Begins the name of every gene of a policy."""
MOST_GROUP = 4096
WRITTEN = re.compile(r"w([2-8]|16)a([2-8]|16)(?:g([0-9]{1,9}))?(t?)(z?)(s?)(d?)")
SHIPPED_ACTIVATIONS = (8, 16)
"""What runtimes have kernels for."""
BLOCKS = (None, 16, 32, 64, 128, 256)
"""Groups of weights that a kernel multiplies with dynamic activations; None: `GROUP`."""
GROUP = 32
"""Weights of 4 bits or less, or beside dynamic activations, that share a scale, by default."""
Format = Literal["bf16", "fp8"]
FLOATS = ("fp32", "tf32", "fp16", "bf16")
"""Precisions that activations of 16 bits may have on a device."""


@dataclass(frozen=True)
class Scheme:
    """Bits of the weights and of the activations that meet them; 16: a float of half precision, fewer: an integer.

    group: weights of a row that share a scale; None: a row (an output channel) has one. whole: all rows share it.
    zeros: weights have a zero point. signed: activations have none, and signed codes. dynamic: activations of 8 bits
        have a scale for each `group` of the channels of a token, found as the net runs: nothing is calibrated, and a
        few large ones (of language models) spoil only their neighbours.
    format: floats of another kind: bfloat16 weights, or weights (a scale for each row) and activations in e4m3
        (Micikevicius et al. 2022).
    """

    weights: int = 16
    activations: int = 16
    group: int | None = None
    whole: bool = False
    zeros: bool = False
    signed: bool = False
    dynamic: bool = False
    format: Format | None = None

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """`w8a8`, `w4a16`, `w4a16g64z`, `w8a8ts`, `fp8`: the inverse of `text`.

        Behind the bits: g64 for groups of 64 weights that share a scale, t for one scale of the whole weight, z for
        weights with a zero point, s for activations without one, d for dynamic ones. Weights of 4 bits beside
        activations of 16, and those beside dynamic ones, have groups of 32 by default. `fp16` is `w16a16`.
        """
        plain = text.strip().lower()
        if plain in FORMATS:
            return FORMATS[plain]
        match = WRITTEN.fullmatch(plain)
        if not match or (match[1] == "16" and match[2] != "16"):
            raise UserError(
                f"quantization {quoted(text)} is not understood; write the bits of weights and activations as in w8a8, "
                "w4a16 or w4a16g64 (2 to 8 or 16; weights of 16 bits have activations of 16), behind them t, z, s "
                "and d in this order (one scale for the whole weight, weights with a zero point, activations without, "
                "activations with scales that are found as the net runs), or fp16, bf16 or fp8"
            )
        group = int(match[3]) if match[3] else None
        whole, zeros, signed, dynamic = map(bool, match.groups()[3:])
        scheme = cls(int(match[1]), int(match[2]), group, whole, zeros, signed, dynamic)
        _check_details(text, scheme)
        few = scheme.dynamic or (scheme.weights <= 4 and scheme.activations == 16)
        return replace(scheme, group=GROUP) if few and not (scheme.group or scheme.whole) else scheme

    @property
    def text(self) -> str:
        letters = "".join(c for c, given in zip("tzsd", self._letters, strict=True) if given)
        return self.format or f"w{self.weights}a{self.activations}" + (f"g{self.group}" * bool(self.group)) + letters

    @property
    def _letters(self) -> tuple[bool, ...]:
        return self.whole, self.zeros, self.signed, self.dynamic

    @property
    def halves(self) -> tuple[str, str]:
        """The text of the weights and that of the activations: w4g32z and a16; fp8 and fp8."""
        if self.format:
            return self.format, self.format if self.activations < 16 else f"a{self.activations}"
        group = f"g{self.group}" if self.group else ""
        weights = f"w{self.weights}{group}{'t' * self.whole}{'z' * self.zeros}"
        return weights, f"a{self.activations}{'s' * self.signed}{'d' * self.dynamic}"

    @property
    def precisions(self) -> tuple[str, ...]:
        """A device needs one of these to run it."""
        if self.activations < 16:
            return (self.format or "int8",)
        return (self.format or "fp16",) if self.weights == 16 else FLOATS


FORMATS = {"fp16": Scheme(), "bf16": Scheme(format="bf16"), "fp8": Scheme(8, 8, format="fp8")}


def _check_details(text: str, scheme: Scheme) -> None:
    """Error: groups, letters that the bits do not have."""
    start = f"quantization {quoted(text)}: "
    groups = scheme.group is None or 8 <= scheme.group <= MOST_GROUP
    fixed = scheme.activations < 16 and not scheme.dynamic
    if not groups or (scheme.group is not None and (scheme.weights > 8 or fixed)):
        raise UserError(
            f"{start}a group must have 8 to {MOST_GROUP} weights of 8 bits or fewer, beside activations of 16 bits"
        )
    if scheme.group is not None and scheme.whole:
        raise UserError(f"{start}a weight has one scale (t) or one for each group (g{scheme.group}); leave one out")
    if scheme.weights == 16 and (scheme.whole or scheme.zeros):
        raise UserError(f"{start}t and z need weights of 8 bits or fewer; weights of 16 bits have no scales")
    if scheme.dynamic and (scheme.activations != 8 or scheme.signed or scheme.whole or scheme.group not in BLOCKS):
        raise UserError(
            f"{start}d needs activations of 8 bits and groups of {', '.join(str(b) for b in BLOCKS if b)} weights, "
            "without t and s, as in w8a8d or w4a8g64d"
        )
    if scheme.activations == 16 and scheme.signed:
        raise UserError(f"{start}s needs activations of 8 bits or fewer; activations of 16 bits are floats")


def schemes_of(weights: Sequence[int], activations: Sequence[int]) -> tuple[Scheme, ...]:
    """All pairs that make sense, the most bits first."""
    pairs = [(w, a) for w in sorted(set(weights), reverse=True) for a in sorted(set(activations), reverse=True)]
    return tuple(Scheme.parse(f"w{w}a{a}") for w, a in pairs if w < 16 or a == 16)


USUAL = (*schemes_of((4, 8, 16), SHIPPED_ACTIVATIONS), FORMATS["fp8"])
"""What `auto` chooses from, as far as a device runs it."""


@dataclass(frozen=True)
class Quantization:
    """What a policy may choose for each group of modules.

    granularity: one gene for each "layer" (`layers.3`), "block" (`layers.3.mixer`: what lies in one module) or
    "linear" (each module by itself). keep: patterns of module names that stay as they are, with those that share their
    weights.
    """

    schemes: tuple[Scheme, ...]
    granularity: Granularity = "block"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise UserError(f"granularity {self.granularity!r} is unknown; valid: {', '.join(GRANULARITIES)}")
        if not self.schemes:
            raise UserError("a quantization needs at least one scheme, such as w8a8")
        object.__setattr__(self, "schemes", tuple(dict.fromkeys(self.schemes)))

    @classmethod
    def parse(cls, text: str, runs: Callable[[Scheme], bool] = lambda scheme: scheme.format != "fp8") -> "Quantization":
        """What a user writes of nets to ship: `w4a8` (for all), `w8a8,w4a16` (a choice for each block), or `auto`.

        runs: whether the targets run a scheme: `auto` leaves out what they do not.
        Errors: those of `Scheme.parse`; activations that no runtime has kernels for.
        """
        if text.strip().lower() == "auto":
            return cls(tuple(filter(runs, USUAL)))
        schemes = tuple(map(Scheme.parse, text.split(",")))
        for scheme in schemes:
            if scheme.activations not in SHIPPED_ACTIVATIONS:
                raise UserError(
                    f"{scheme.text} can be evaluated and not shipped: no runtime here has kernels for activations of "
                    f"{scheme.activations} bits; use 8 or 16, as in w{scheme.weights}a8"
                )
        return cls(schemes)

    @classmethod
    def read(
        cls, schemes: Sequence[str], granularity: Granularity = "block", keep: Sequence[str] = ()
    ) -> "Quantization":
        """From `fields`. Errors: those of `Scheme.parse`, and of what cannot be."""
        return cls(tuple(map(Scheme.parse, schemes)), granularity, tuple(keep))

    @property
    def fields(self) -> dict[str, Any]:
        """As files hold it, and arguments of `SearchSpace.quantized`."""
        return {"schemes": self.texts, "granularity": self.granularity, "keep": list(self.keep)}

    @property
    def texts(self) -> list[str]:
        """Of the schemes: the options of each gene."""
        return [scheme.text for scheme in self.schemes]

    def check(self, modules: "Iterable[nn.Module]") -> None:
        """Errors: nets with a policy already, nothing to quantize, a pattern that names nothing in any of them."""
        from .projections import open_projections

        names: set[str] = set()
        unmatched = set(self.keep)
        for module in modules:
            open_projections(module)
            if policy_of(module):
                raise UserError(
                    "the space is quantized already and takes no second policy; search it without --quantize"
                )
            names |= quantizable(module).keys()
            unmatched = {pattern for pattern in unmatched if not any(fnmatchcase(name, pattern) for name in names)}
            if names and not unmatched:
                return
        if not names:
            raise UserError("the space has no linear layer, convolution or embedding to quantize")
        raise UserError(f"keep={min(unmatched)!r} names no linear layer, convolution or embedding of the space")

    def ask(self, module: "nn.Module", trial: Trial) -> None:
        """Let the trial choose, and note the schemes at the parts of the module.

        Parts that share a weight (a head tied to the embedding) have one scheme, by the gene of the first. What is no
        linear layer has no dynamic activations.
        """
        from torch import nn

        from .projections import open_projections

        open_projections(module)
        tied: dict[int, list[str]] = {}
        for name, part in quantizable(module).items():
            tied.setdefault(id(part.weight), []).append(name)
        for names in tied.values():
            if not any(fnmatchcase(name, pattern) for pattern in self.keep for name in names):
                gene = GENE + group_of(names[0], self.granularity)
                scheme = Scheme.parse(str(trial.suggest_categorical(gene, self.texts)))
                for name in names:
                    part = module.get_submodule(name)
                    vars(part)["quantization"] = scheme if isinstance(part, nn.Linear) else _of_tables(scheme)


def _of_tables(scheme: Scheme) -> Scheme:
    return replace(scheme, activations=16, dynamic=False) if scheme.dynamic else scheme


def canonical(choices: Mapping[str, GeneValue], genes: Mapping[str, Gene]) -> dict[str, GeneValue]:
    """The choices, with schemes written as the options of their genes are: w4a16g32 for w4a16."""
    return {n: _spelled(v, genes[n]) if n.startswith(GENE) and n in genes else v for n, v in choices.items()}


def _spelled(value: GeneValue, gene: Gene) -> GeneValue:
    if value in gene.options:
        return value
    try:
        return Scheme.parse(str(value)).text
    except UserError:  # the gene says what is valid
        return value


def policy_genes(names: Iterable[str]) -> list[str]:
    """Those of these genes that are of a policy."""
    return [name for name in names if name.startswith(GENE)]


def policy_of(module: "nn.Module") -> dict[str, Scheme]:
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


def quantizable(root: "nn.Module") -> "dict[str, nn.Module]":
    """The parts that a policy can cover, by name."""
    from torch import nn

    from .projections import is_called

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    return {name: part for name, part in root.named_modules() if isinstance(part, kinds) and is_called(part)}
