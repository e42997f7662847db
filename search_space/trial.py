"""The trial that a space function talks to: Optuna's `suggest_*` calls, answered by a choice function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np

from ..errors import UserError
from .architecture import Architecture, GeneValue
from .paths import Path, path_of

MOST_OPTIONS = 100_000
MOST_GENES, MOST_ASKED = 10_000, 100_000
"""Of one net: a function that asks for more has no end."""


@dataclass(frozen=True)
class Gene:
    """One decision of a space.

    `options` are in order; those of a nested gene (numbers) ascend: a smaller one is a corner of a larger one.
    The options of any other gene are alternatives: the supernet holds the union of their parameters.
    """

    name: str
    options: tuple[GeneValue, ...]
    nested: bool

    @cached_property
    def path(self) -> Path:
        """`layers.3.ffn` as ("layers", 3, "ffn")."""
        return path_of(self.name)

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
    """A gene over `options`; numbers (not booleans) make it nested. numpy's numbers become Python's."""
    if not isinstance(name, str) or not name:
        raise UserError(f"the name of a gene must be a string, got {name!r}; write a name, as in 'width'")
    if len(options) == 0:
        raise UserError(f"gene {name!r} has no options; give at least one")
    plain = [option.item() if isinstance(option, np.generic) else option for option in options]
    for option in plain:
        if not isinstance(option, GeneValue):
            raise UserError(f"gene {name!r}: option {option!r} is not a number, string, boolean or None")
        if isinstance(option, float) and not isfinite(option):
            raise UserError(f"gene {name!r}: option {option!r} is not finite")
    _check_distinct(name, plain)
    nested = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in plain)
    return Gene(name, tuple(sorted(plain) if nested else plain), nested)  # type: ignore[type-var]


def _check_distinct(name: str, options: Sequence[GeneValue]) -> None:
    """Options that Python holds equal (1, 1.0 and True) are one key of every mapping and one value of a storage."""
    seen: dict[GeneValue, GeneValue] = {}
    for option in options:
        if option in seen:
            raise UserError(
                f"gene {name!r}: options {seen[option]!r} and {option!r} are equal in Python; give each option once"
            )
        seen[option] = option


def _integer(name: str, what: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UserError(f"gene {name!r}: {what} must be an integer, got {value!r}")
    return int(value)


def _number(name: str, what: str, value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not isfinite(value):
        raise UserError(f"gene {name!r}: {what} must be a finite number, got {value!r}")
    return float(value)


def _count(name: str, low: float, high: float, step: float) -> int:
    """How many options a range has. Errors: none, too many."""
    if step <= 0:
        raise UserError(f"gene {name!r}: step must be more than 0, got {step}")
    steps = (high - low) // step if isinstance(step, int) else (high - low) / step + 1e-9
    if not 0 <= steps < MOST_OPTIONS:
        raise UserError(
            f"gene {name!r}: a range needs 1 to {MOST_OPTIONS} options, and {low}..{high} by {step} has "
            f"{'none' if steps < 0 else 'more'}"
        )
    return int(steps) + 1


class RecordingTrial:
    """Answers every question by `choose(gene)` and records genes and answers in the order of asking."""

    def __init__(self, choose: Callable[[Gene], GeneValue]) -> None:
        self._choose = choose
        self.genes: dict[str, Gene] = {}
        self.values: dict[str, GeneValue] = {}
        self._asked = 0

    def _ask(self, gene: Gene) -> GeneValue:
        self._asked += 1
        if len(self.genes) > MOST_GENES or self._asked > MOST_ASKED:
            raise UserError(
                f"the space function suggests genes without end: {self._asked} so far, the last {gene.name!r}"
            )
        earlier = self.genes.setdefault(gene.name, gene)
        if earlier != gene:
            raise UserError(
                f"gene {gene.name!r} is suggested twice with different options: {earlier.options}, {gene.options}"
            )
        if gene.name not in self.values:
            value = self._choose(gene)
            self.values[gene.name] = gene.options[position(gene, value)]
        return self.values[gene.name]

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.values)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        del log  # a hint for samplers over wide ranges; the options are the same
        low, high, step = (_integer(name, w, v) for w, v in (("low", low), ("high", high), ("step", step)))
        count = _count(name, low, high, step)
        return int(self._ask(make_gene(name, range(low, low + count * step, step))))  # type: ignore[arg-type]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        del log
        if step is None:
            raise UserError(f"gene {name!r}: suggest_float needs a step here, for a net has countably many sizes")
        low, high, step = (_number(name, w, v) for w, v in (("low", low), ("high", high), ("step", step)))
        count = _count(name, low, high, step)
        return float(self._ask(make_gene(name, [low + i * step for i in range(count)])))  # type: ignore[arg-type]

    def suggest_categorical(self, name: str, choices: Sequence[GeneValue]) -> GeneValue:
        return self._ask(make_gene(name, list(choices)))


def position(gene: Gene, value: GeneValue) -> int:
    """Index of `value` among the options; True is not 1 here. Error: the options that are valid."""
    for index, option in enumerate(gene.options):
        if option == value and isinstance(option, bool) == isinstance(value, bool):
            return index
    raise UserError(f"gene {gene.name!r} has no option {value!r}; valid: {', '.join(map(str, gene.options))}")
