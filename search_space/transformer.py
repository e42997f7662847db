"""The general transformer as a space: a record of options, and the function from a trial to a net."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import nn

from ..errors import UserError, unknown
from .architecture import GeneValue
from .blocks import Block, Transformer
from .operators.activations import activation_function
from .operators.base import (
    NONE,
    TOKEN_STD,
    Kind,
    Operator,
    check_memory,
    check_placement,
    is_foreign,
    operator,
    operators,
    register,
)
from .options import HeadSize, HeadSizes, Integers, Layers, Names, Numbers, Values, check_gene, user_error
from .trial import Trial

__all__ = ["Block", "Transformer", "TransformerFunction", "TransformerSpace"]

SLOTS: tuple[Kind, ...] = ("stem", "position", "mixer", "ffn", "norm", "readout")


class TransformerSpace(BaseModel):
    """Options of the general transformer. A list gives the options of a gene; one value (or a list of one) decides it.

    Genes of the whole net: width, norm, stem, position, readout, activation, and depth where `depth` is "first".
    Genes of every layer i, as `layers.{i}.NAME`: keep, mixer, ffn, kv_heads, group, expansion, ffn_ratio and the
    operators' own.
    Errors: a field, operator or option that does not exist, and an operator where it cannot work, in one sentence.

    >>> options = nas.TransformerSpace(patch=2, width=[32, 48], mixer=["softmax", "pool"])
    >>> space = nas.SearchSpace(options.bind(input_shape=(1, 8, 8), classes=10))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str = Field("", description="What the space is for, in one sentence.")
    stem: Names = Field(("patch",), description="How input becomes tokens.")
    vocabulary: int = Field(0, ge=0, description="Number of distinct input tokens (stem `tokens`).")
    patch: HeadSize = Field(4, description="Edge of a square patch in pixels (stem `patch`).")
    width: Integers = Field((64,), description="Channels of a token.")
    layers: Layers = Field(4, description="Number of layers of the deepest net.")
    least_layers: Layers | None = Field(None, description="How many layers always stay, the first ones. Default: all.")
    depth: Literal["any", "first"] = Field("any", description="Which of the others may stay: any subset, or the first.")
    head_dim: HeadSize = Field(16, description="Channels per head, the same in all nets.")
    kv_heads: HeadSizes = Field((2,), description="Key/value heads.")
    group: HeadSizes = Field((1,), description="Query heads per key/value head.")
    mixer: Names = Field(("softmax",), description="Mixers.")
    ffn: Names = Field(("mlp",), description="Feed-forward networks.")
    expansion: Numbers = Field((4.0,), description="Full hidden width of an FFN, in widths.")
    ffn_ratio: Numbers = Field((1.0,), description="Part of that hidden width that is kept (nested).")
    activation: Names = Field(("gelu",), description="Activation function of the plain FFN.")
    norm: Names = Field(("layernorm",), description="Normalisation before every branch and the readout.")
    position: Names = Field(("learned",), description="How a token knows its place.")
    readout: Names = Field(("mean",), description="How tokens become the answer.")
    causal: bool = Field(False, description="Whether a token may only see itself and earlier ones.")
    genes: dict[str, Values] = Field({}, description="Options for the operators' own genes, e.g. `window: [2, 4]`.")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise user_error(error, type(self).model_fields) from None

    @field_validator("activation")
    @classmethod
    def _known_activations(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            activation_function(name)
        return names

    @field_validator(*SLOTS)
    @classmethod
    def _known_operators(cls, names: tuple[str, ...], info: Any) -> tuple[str, ...]:
        for name in names:
            operator(info.field_name, name)
        return names

    @field_validator("least_layers")
    @classmethod
    def _at_most_all(cls, least: int | None, info: Any) -> int | None:
        if least is not None and least > info.data.get("layers", least):
            raise UserError(f"{least} is above the number of layers; give 1 to {info.data['layers']}")
        return least

    @model_validator(mode="after")
    def _legal(self) -> "TransformerSpace":
        for stem in self._entries("stem"):
            (layout,) = stem.capabilities.layouts
            for kind in SLOTS:
                for entry in self._entries(kind):
                    if kind != "stem":
                        check_placement(entry, layout, self.causal)
        check_memory([entry for kind in SLOTS for entry in self._entries(kind)])
        known = {gene: options for entry in operators() for gene, options in entry.genes.items()}
        for gene, options in self.genes.items():
            if gene not in known:
                raise unknown("gene of an operator", gene, known)
            check_gene(gene, options, known[gene])
        return self

    @model_serializer(mode="wrap")
    def _stated(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a vocabulary where there is none: descriptions in runs of older versions are like that."""
        return {n: v for n, v in dump(self).items() if n != "vocabulary" or v}

    def _entries(self, kind: Kind) -> Iterator[Operator]:
        names: Sequence[str] = getattr(self, kind)
        return (operator(kind, name) for name in names)

    def bind(self, input_shape: Sequence[int], classes: int, vocabulary: int | None = None) -> "TransformerFunction":
        """The space function for inputs of that shape without batch ((C, H, W) or (length,)), and `classes` outputs.

        vocabulary: None for the space's own.
        """
        return TransformerFunction(self, tuple(input_shape), classes, vocabulary or self.vocabulary)


@dataclass(frozen=True)
class TransformerFunction:
    """A space function: asks a trial for the genes of `space` and builds the net. Frozen, and it can be pickled."""

    space: TransformerSpace
    input_shape: tuple[int, ...]
    classes: int
    vocabulary: int = 0

    def __call__(self, trial: Trial) -> Transformer:
        return _Assembly(self, trial).build()

    def __reduce__(self) -> tuple[Any, ...]:
        """Operators from outside the package travel along: who unpickles it may not have registered them."""
        entries = [entry for kind in SLOTS for entry in self.space._entries(kind) if is_foreign(entry)]
        foreign = [(e.kind, e.name, e.capabilities, dict(e.genes), e.cls) for e in entries]
        return _unpickled, (foreign, self.space, self.input_shape, self.classes, self.vocabulary)


def _unpickled(foreign: Sequence[tuple[Any, ...]], *fields: Any) -> TransformerFunction:
    for *entry, cls in foreign:
        register(*entry)(cls)
    return TransformerFunction(*fields)


class _Assembly:
    """Builds one net. Asks only for genes that decide something: the chosen operators' own, with several options."""

    def __init__(self, function: TransformerFunction, trial: Trial) -> None:
        self.space, self.trial = function.space, trial
        self.menu: dict[str, Sequence[GeneValue]] = {
            "kv_heads": self.space.kv_heads,
            "group": self.space.group,
            **self.space.genes,
        }
        self.facts: dict[str, object] = {
            "input_shape": function.input_shape,
            "classes": function.classes,
            "vocabulary": function.vocabulary,
            "patch": self.space.patch,
            "head_dim": self.space.head_dim,
        }

    def build(self) -> Transformer:
        space = self.space
        self.width: int = self.ask("width", space.width)
        self.norm_name: str = self.ask("norm", space.norm)
        stem = self.make("stem", self.ask("stem", space.stem), "stem.")
        self.facts.update(grid=stem.grid, tokens=stem.tokens)
        readout: str = self.ask("readout", space.readout)
        return Transformer(
            stem,
            self.make("position", self.ask("position", space.position), "position."),
            {index: self.block(index) for index in self.kept()},
            self.make("norm", self.norm_name, "norm."),
            self.make("readout", readout, "readout."),
            prefix=self.prefix(operator("readout", readout)),
            grid=stem.grid,  # type: ignore[arg-type]
            causal=space.causal,
        )

    def ask(self, gene: str, options: Sequence[GeneValue]) -> Any:
        return options[0] if len(options) == 1 else self.trial.suggest_categorical(gene, list(options))

    def kept(self) -> list[int]:
        """Indices of the layers of this net. The first ones always stay, so that no net is empty."""
        layers = range(self.space.layers)
        least = self.space.least_layers or len(layers)
        if self.space.depth == "first":
            return list(layers[: self.ask("depth", range(least, len(layers) + 1))])
        return [i for i in layers if i < least or self.ask(f"layers.{i}.keep", (True, False))]

    def block(self, index: int) -> Block:
        self.facts["layer"] = index
        scope = f"layers.{index}."
        return Block(*self.branch("mixer", self.space.mixer, scope), *self.branch("ffn", self.space.ffn, scope))

    def branch(self, kind: Kind, names: tuple[str, ...], scope: str) -> tuple[nn.Module | None, nn.Module | None]:
        """Norm and operator of one residual branch; neither is built for the operator that does nothing."""
        name = self.ask(scope + kind, names)
        if name == NONE:
            return None, None
        return self.make("norm", self.norm_name, "norm."), self.make(kind, name, scope)

    def make(self, kind: Kind, name: str, scope: str) -> nn.Module:
        entry = operator(kind, name)
        return entry.cls(self.width, **{p: self.value(p, entry, scope) for p in entry.parameters})

    def value(self, parameter: str, entry: Operator, scope: str) -> object:
        """What a constructor parameter gets: a fact, a size that the skeleton decides, or the operator's own gene."""
        if parameter in self.facts:
            return self.facts[parameter]
        if parameter == "activation":
            return self.ask("activation", self.space.activation)
        if parameter == "hidden":
            return self.hidden(scope)
        return self.ask(scope + parameter, self.menu.get(parameter) or entry.genes[parameter])

    def hidden(self, scope: str) -> int:
        """Hidden units of an FFN: a multiple of 8 (vector units), at least 8."""
        expansion: float = self.ask(f"{scope}expansion", self.space.expansion)
        ratio: float = self.ask(f"{scope}ffn_ratio", self.space.ffn_ratio)
        return max(8, int(expansion * ratio * self.width / 8 + 0.5) * 8)

    def prefix(self, readout: Operator) -> nn.Parameter | None:
        if not readout.capabilities.needs_prefix:
            return None
        return nn.Parameter(torch.empty(1, self.width).normal_(std=TOKEN_STD))
