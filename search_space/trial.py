"""The trial that a space function talks to: Optuna's `suggest_*` calls, answered by a choice function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import UserError
from .architecture import Architecture, GeneValue

MOST_OPTIONS = 100_000


@dataclass(frozen=True)
class Gene:
    """One decision of a space.

    `options` are in order; those of a nested gene (numbers) ascend: a smaller one is a corner of a larger one.
    The options of any other gene are alternatives: the supernet holds the union of their parameters.
    """

    name: str
    options: tuple[GeneValue, ...]
    nested: bool

    @property
    def top(self) -> GeneValue:
        """The option of the largest net as far as the gene alone can tell: the last number, the first alternative."""
        return self.options[-1 if self.nested else 0]


class Trial(Protocol):
    """What a space function may ask. A real `optuna.Trial` fits."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[GeneValue]) -> GeneValue: ...


def make_gene(name: str, options: Sequence[GeneValue]) -> Gene:
    """A gene over `options`; numbers (not booleans) make it nested."""
    if len(options) == 0:
        raise UserError(f"gene {name!r} has no options; give at least one")
    if len(set(map(repr, options))) < len(options):
        raise UserError(f"gene {name!r} has the same option twice: {list(options)}")
    for option in options:
        if not isinstance(option, GeneValue):
            raise UserError(f"gene {name!r}: option {option!r} is no number, string, boolean or None")
    nested = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in options)
    return Gene(name, tuple(sorted(options) if nested else options), nested)  # type: ignore[type-var]


class RecordingTrial:
    """Answers every question by `choose(gene)` and records genes and answers in the order of asking."""

    def __init__(self, choose: Callable[[Gene], GeneValue]) -> None:
        self._choose = choose
        self.genes: dict[str, Gene] = {}
        self.values: dict[str, GeneValue] = {}

    def _ask(self, gene: Gene) -> GeneValue:
        known = self.genes.setdefault(gene.name, gene)
        if known != gene:
            raise UserError(f"gene {gene.name!r} is asked twice with other options: {known.options}, {gene.options}")
        if gene.name not in self.values:
            value = self._choose(gene)
            self.values[gene.name] = gene.options[position(gene, value)]
        return self.values[gene.name]

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.values)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        del log  # a hint for samplers over wide ranges; the options are the same
        count = (high - low) // step + 1
        if not 1 <= count <= MOST_OPTIONS:
            raise UserError(
                f"gene {name!r}: {low}..{high} by {step} gives {count} options; 1 to {MOST_OPTIONS} are right"
            )
        return int(self._ask(make_gene(name, range(low, high + 1, step))))  # type: ignore[arg-type]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        del log
        if step is None:
            raise UserError(f"gene {name!r}: suggest_float needs a step here, for a net has countably many sizes")
        count = int((high - low) / step + 1e-9) + 1
        return float(self._ask(make_gene(name, [low + i * step for i in range(count)])))  # type: ignore[arg-type]

    def suggest_categorical(self, name: str, choices: Sequence[GeneValue]) -> GeneValue:
        return self._ask(make_gene(name, list(choices)))


def position(gene: Gene, value: GeneValue) -> int:
    """Index of `value` among the options; True is not 1 here. Error: the options that are valid."""
    for index, option in enumerate(gene.options):
        if option == value and isinstance(option, bool) == isinstance(value, bool):
            return index
    raise UserError(f"gene {gene.name!r} has no option {value!r}; valid: {', '.join(map(str, gene.options))}")
