"""What every operator shares: the context it sees, the flags it carries and the registry that finds it.

An operator is an ordinary `nn.Module` with `__init__(self, width, ...)` and `forward(self, x, context)`. The names of
its further constructor parameters say what it needs: one of `GIVEN` is filled by the skeleton, any other is a gene of
its own, for which it registers default options. One file in the folder of its kind makes it searchable; nothing else
has to know of it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

from torch import Tensor, nn

from ...errors import UserError, unknown
from ...plugins import load_plugins
from ..architecture import GeneValue

Kind = Literal["mixer", "ffn", "norm", "position", "stem", "readout"]
TokenLayout = Literal["sequence", "grid", "set"]
EVERY_LAYOUT: frozenset[TokenLayout] = frozenset(get_args(TokenLayout))
GRID: frozenset[TokenLayout] = frozenset({"grid"})
NONE = "none"  # the branch that is not there: the skeleton builds neither it nor its norm

TOKEN_STD = 0.2
"""Tokens, positions and prefix start at this size (for inputs of variance 1): neither the content nor the place drowns
the other, nor what the first branches add. Linear maps start as torch starts them. On digits, a small net reaches 97 %
in 250 steps; with torch's start of the stem and positions of 0.02 it reaches 83 % (softmax) and 74 % (linear)."""

GIVEN: Mapping[str, str] = MappingProxyType(
    {
        "kv_heads": "number of key/value heads, K",
        "group": "query heads per key/value head, G",
        "head_dim": "channels per head, C",
        "hidden": "hidden width of the FFN",
        "activation": "name of the activation function",
        "layer": "index of the layer in the supernet",
        "tokens": "number of tokens without prefix tokens, N",
        "grid": "(rows, columns) of the tokens, or None",
        "input_shape": "shape of one input, without the batch",
        "patch": "edge of a square patch in pixels",
        "vocabulary": "number of distinct input tokens",
        "classes": "number of outputs",
    }
)


@dataclass
class Context:
    """What an operator sees beside its input. One forward call makes one; layers pass it on.

    The stem's facts are set by the skeleton; only an operator that is flagged `changes_tokens` may alter them.
    """

    grid: tuple[int, int] | None = None
    """(rows, columns) of the tokens behind the prefix, row by row; None for a sequence or a set."""
    prefix: int = 0
    """Number of leading tokens that stand outside the grid (CLS, registers)."""
    causal: bool = False
    """Whether a token may only see itself and earlier ones."""
    mask: Tensor | None = None
    """(B, N) bool, True for real tokens, False for padding; None if all are real."""
    positions: Tensor | None = None
    """(N,) or (B, N) place of every token; None means 0, 1, 2, ..."""
    condition: Tensor | None = None
    """(B, E) what the net is conditioned on (a time step, a class)."""
    layer: int = 0
    """The supernet's index of the current layer, so that leaving out a layer changes nothing for the others."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """What earlier layers leave for later ones, by a name that both operators know."""


@dataclass(frozen=True)
class Capabilities:
    """What an operator can do. Spaces refuse illegal placements by these flags; the contract test holds them true."""

    layouts: frozenset[TokenLayout] = EVERY_LAYOUT
    """Arrangements of tokens that it accepts (a stem: the one that it makes)."""
    causal: bool = False
    """With `context.causal`, later tokens do not change earlier outputs."""
    changes_tokens: bool = False
    """Returns another number of tokens than it was given."""
    needs_prefix: bool = False
    """Reads a prefix token, so the skeleton adds one."""
    onnx: bool = True
    """Exports to ONNX."""
    leaves: frozenset[str] = frozenset()
    """Names under which it leaves tensors in `context.memory`."""
    reads: frozenset[str] = frozenset()
    """Names in `context.memory` that it acts upon. A mixer does without, a readout does not."""


@dataclass(frozen=True)
class Operator:
    """One entry of the registry."""

    kind: Kind
    name: str
    cls: type[nn.Module]
    capabilities: Capabilities
    genes: Mapping[str, tuple[GeneValue, ...]]
    """Its own hyper-parameters and their default options."""
    parameters: tuple[str, ...]
    """Names of the constructor's parameters after `width`."""
    summary: str


_REGISTRY: dict[tuple[str, str], Operator] = {}
Module = TypeVar("Module", bound=nn.Module)


def register(
    kind: Kind,
    name: str,
    capabilities: Capabilities = Capabilities(),
    genes: Mapping[str, Sequence[GeneValue]] = MappingProxyType({}),
) -> Callable[[type[Module]], type[Module]]:
    """Make the decorated module an operator. Errors: see `nas.register.operator`.

    A class of the same module and name replaces the one before it, as when a cell of a notebook runs again.
    """
    if kind not in get_args(Kind):
        raise unknown("kind of operator", kind, get_args(Kind))

    def enter(cls: type[Module]) -> type[Module]:
        old = _REGISTRY.get((kind, name))
        if old and (old.cls.__module__, old.cls.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UserError(f"{kind} {name!r} is registered twice: {old.cls} and {cls}; rename one")
        parameters = tuple(inspect.signature(cls).parameters)[1:]
        for parameter in parameters:
            if parameter not in genes and parameter not in GIVEN:
                raise UserError(f"{kind} {name!r}: no value for parameter {parameter!r}; give it options in `genes`")
        options = MappingProxyType({gene: tuple(values) for gene, values in genes.items()})
        _check_genes(kind, name, options)
        summary = (cls.__doc__ or "").strip().split("\n")[0]
        _REGISTRY[kind, name] = Operator(kind, name, cls, capabilities, options, parameters, summary)
        return cls

    return enter


def _check_genes(kind: Kind, name: str, genes: Mapping[str, tuple[GeneValue, ...]]) -> None:
    """A gene has the same options wherever it is named in a slot: operators of one layer share it."""
    for gene, options in genes.items():
        if not options:
            raise UserError(f"{kind} {name!r}: gene {gene!r} has no options; give at least one")
        for other in _REGISTRY.values():
            if other.kind == kind and other.name != name and other.genes.get(gene, options) != options:
                raise UserError(
                    f"{kind} {name!r}: gene {gene!r} has the options {list(other.genes[gene])} in {other.name!r}; "
                    "give the same options, or another name to the gene"
                )


@cache
def discover() -> None:
    """Import every module below this package once; importing a file registers its operators."""
    package = __name__.rpartition(".")[0]
    for module in walk_packages(import_module(package).__path__, f"{package}."):
        import_module(module.name)


def operators(kind: Kind | None = None) -> list[Operator]:
    """All operators (of one kind), those of plug-ins too, sorted by kind and name."""
    discover()
    load_plugins()
    return [entry for key, entry in sorted(_REGISTRY.items()) if kind in (None, key[0])]


def operator(kind: Kind, name: str) -> Operator:
    """The operator of that name. Error: unknown, with the valid names, nearest first."""
    discover()
    load_plugins()
    if (kind, name) not in _REGISTRY:
        raise unknown(kind, name, (entry.name for entry in operators(kind)))
    return _REGISTRY[kind, name]


def is_foreign(entry: Operator) -> bool:
    """Whether it was registered from outside the package."""
    return not entry.cls.__module__.startswith(f"{__name__.rpartition('.')[0]}.")


def check_placement(entry: Operator, layout: TokenLayout, causal: bool) -> None:
    """Refuse an operator that cannot work on this layout, or not causally; the sentence lists those that can."""
    if fits(entry, layout, causal):
        return
    able = ", ".join(other.name for other in operators(entry.kind) if fits(other, layout, causal))
    lacks = f"a {layout} of tokens" if layout not in entry.capabilities.layouts else "a causal space"
    raise UserError(f"{entry.kind} {entry.name!r} does not work on {lacks}; of this kind these do: {able}")


def check_memory(entries: Sequence[Operator]) -> None:
    """Refuse a space where nothing reads what a position leaves, or where nothing leaves what a readout reads."""
    for position in (entry for entry in entries if entry.kind == "position"):
        if unread := position.capabilities.leaves - _names(entries, "mixer", "reads"):
            able = ", ".join(o.name for o in operators("mixer") if unread <= o.capabilities.reads)
            raise UserError(
                f"position {position.name!r} acts through the mixers {able}, and the space has none of them"
            )
    for readout in (entry for entry in entries if entry.kind == "readout"):
        if missing := readout.capabilities.reads - _names(entries, "stem", "leaves"):
            able = ", ".join(o.name for o in operators("stem") if missing <= o.capabilities.leaves)
            raise UserError(f"readout {readout.name!r} works with the stems {able}, and the space has none of them")


def _names(entries: Sequence[Operator], kind: Kind, flag: Literal["reads", "leaves"]) -> frozenset[str]:
    return frozenset(n for e in entries if e.kind == kind for n in getattr(e.capabilities, flag))


def fits(entry: Operator, layout: TokenLayout, causal: bool) -> bool:
    """Whether the flags allow this operator in a space of that layout."""
    return layout in entry.capabilities.layouts and (entry.capabilities.causal or not causal)


def layouts(*names: TokenLayout) -> frozenset[TokenLayout]:
    """Token layouts as a set: `layouts("grid", "sequence")`."""
    return frozenset(names)
