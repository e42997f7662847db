"""A space of architectures as genes: draw, change, cross, count and enumerate them. It needs no net."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from ..errors import UserError, unknown
from .architecture import Architecture, GeneValue
from .conditions import Conditions, count, is_present
from .trial import Gene, make_gene, position

TRIES = 1000
ENUMERABLE = 50_000
REPLAYABLE = 2_000  # a walk that runs the space function takes milliseconds
T = TypeVar("T")


@dataclass(frozen=True)
class Requirement:
    """A constraint across genes: the predicate and the sentence that says what is required."""

    predicate: Callable[[Architecture], bool]
    message: str

    def holds(self, architecture: Architecture) -> bool:
        """A predicate that reads a gene which this architecture does not have holds."""
        try:
            return bool(self.predicate(architecture))
        except KeyError:
            return True


class GeneSpace:
    """All assignments of options to genes that the conditions and requirements allow.

    `GeneSpace({"lr": [0.1, 0.01], "width": [64, 128]})` is a space without a net, for tables and recipes.
    `SearchSpace` adds the net.
    Every method that draws takes the random generator as an argument (a numpy Generator or a seed).

    >>> nas.GeneSpace({"lr": [0.1, 0.01], "width": [64, 128]}).size
    4
    """

    def __init__(self, options: Mapping[str, Sequence[GeneValue]]) -> None:
        self.genes: dict[str, Gene] = {name: make_gene(name, values) for name, values in options.items()}
        self._conditions: Conditions = {}
        self._ruled = True  # whether genes and conditions say all about which architectures exist
        self._requirements: list[Requirement] = []
        self._extremes: dict[bool, Architecture] = {}

    @property
    def conditions(self) -> Conditions:
        """When a gene exists (see `conditions.Conditions`); empty where only running the space function shows it."""
        return self._conditions

    @property
    def rows_suffice(self) -> bool:
        """Whether genes and conditions alone say which architectures exist: no function to run, no requirements."""
        return self._ruled and not self._requirements

    @property
    def walk_is_slow(self) -> bool:
        """Whether a walk runs the space function, which takes milliseconds."""
        return not self._ruled

    # One primitive carries the rest: ask the genes that exist, in order, and let `choose` answer.

    def walk(self, choose: Callable[[Gene], GeneValue]) -> Architecture:
        """The architecture whose genes `choose` decides, asked in order and only where they exist."""
        values: dict[str, GeneValue] = {}
        for name, gene in self.genes.items():
            if is_present(name, values, self._conditions):
                values[name] = gene.options[position(gene, choose(gene))]
        return Architecture(values)

    def architecture(self, choices: Mapping[str, GeneValue]) -> Architecture:
        """The canonical architecture of `choices`: genes that do not exist under them are dropped.

        Errors: a gene that the space does not have, an option that the gene does not have, a missing gene, a violated
        requirement.
        """
        for name in choices:
            if name not in self.genes:
                raise unknown("gene", name, self.genes)

        def choose(gene: Gene) -> GeneValue:
            if gene.name not in choices:
                raise UserError(f"gene {gene.name!r} is missing; valid: {', '.join(map(str, gene.options))}")
            return choices[gene.name]

        architecture = self.walk(choose)
        for requirement in self._requirements:
            if not requirement.holds(architecture):
                raise UserError(f"architecture {architecture.id} violates a requirement: {requirement.message}")
        return architecture

    def __contains__(self, candidate: object) -> bool:
        if not isinstance(candidate, Mapping):
            return False
        try:
            return bool(self.architecture(candidate) == candidate)
        except UserError:
            return False

    def require(self, predicate: Callable[[Architecture], bool], message: str) -> None:
        """Keep only architectures for which `predicate` is true. `message` says what is required, for errors."""
        self._requirements.append(Requirement(predicate, message))
        self._extremes.clear()
        self.sample(np.random.default_rng(0))  # a requirement that nothing meets is refused now

    def allows(self, architecture: Architecture) -> bool:
        """Whether every requirement holds."""
        return all(r.holds(architecture) for r in self._requirements)

    # Drawing and changing

    def sample(self, rng: np.random.Generator | int) -> Architecture:
        """A random architecture: every gene that exists takes each of its options with equal probability."""
        rng = np.random.default_rng(rng)
        return self._draw(lambda: self.walk(lambda gene: _pick(gene.options, rng)))

    def mutate(
        self, architecture: Architecture, rng: np.random.Generator | int, rate: float | None = None
    ) -> Architecture:
        """Another member near `architecture`: each gene changes with probability `rate` (1/genes), one at least.

        A nested gene moves to an adjacent option half of the time; genes that come into being are drawn.
        """
        rng = np.random.default_rng(rng)
        open_genes = [n for n, gene in self.genes.items() if n in architecture and len(gene.options) > 1]
        if not open_genes:
            return architecture
        rate = 1 / len(open_genes) if rate is None else rate

        def propose() -> Architecture:
            changed = {n for n in open_genes if rng.random() < rate} or {_pick(open_genes, rng)}
            return self.walk(lambda gene: _mutated(gene, architecture, gene.name in changed, rng))

        return self._draw(propose, unlike=architecture)

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator | int) -> Architecture:
        """A child that takes every gene from either parent with equal probability (uniform crossover)."""
        rng = np.random.default_rng(rng)

        def choose(gene: Gene) -> GeneValue:
            carriers = [p[gene.name] for p in (a, b) if gene.name in p and p[gene.name] in gene.options]
            return _pick(carriers or gene.options, rng)

        return self._draw(lambda: self.walk(choose))

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """All members that differ by one decision. Genes that come into being take their largest option."""
        return [a for a in self._steps(architecture) if self.allows(a)]

    def _steps(self, architecture: Architecture) -> list[Architecture]:
        """As `neighbours`, whether the requirements hold or not."""

        def flip(name: str, option: GeneValue) -> Architecture:
            def choose(gene: Gene) -> GeneValue:
                flipped = gene.name == name and option in gene.options
                return option if flipped else _kept(gene, architecture)

            return self.walk(choose)

        flips = {flip(name, option): None for name in architecture for option in self.genes[name].options}
        return [a for a in flips if a != architecture]

    def _draw(self, propose: Callable[[], Architecture], unlike: Architecture | None = None) -> Architecture:
        for _ in range(TRIES):
            candidate = propose()
            if candidate != unlike and self.allows(candidate):
                return candidate
        required = "; ".join(r.message for r in self._requirements) or "another architecture exists"
        raise UserError(f"no architecture met the requirements in {TRIES} draws ({required}); loosen them")

    # Extremes, size, enumeration

    @property
    def largest(self) -> Architecture:
        """Every number at its top, of alternatives the one of most parameters, or bits (else the first)."""
        return self._extreme(True)

    @property
    def smallest(self) -> Architecture:
        """Every number at its bottom, of alternatives the one of fewest parameters, or bits (else the first)."""
        return self._extreme(False)

    def _extreme(self, large: bool) -> Architecture:
        if large not in self._extremes:
            start = self.walk(lambda gene: self._extreme_option(gene, large))
            self._extremes[large] = self._nearest_allowed(start, large)
        return self._extremes[large]

    def _extreme_option(self, gene: Gene, large: bool) -> GeneValue:
        return gene.options[-1 if large else 0] if gene.nested else gene.options[0]

    def _nearest_allowed(self, start: Architecture, large: bool) -> Architecture:
        """The allowed architecture fewest decisions away from `start`; of several, the largest (smallest)."""
        ring, seen = {start}, {start}
        while ring and len(seen) < ENUMERABLE:
            allowed = [a for a in ring if self.allows(a)]
            if allowed:
                sign = 1 if large else -1
                return max(allowed, key=lambda a: (sign * float(np.nansum(self._ranks(a))), a.id))
            ring = {n for a in ring for n in self._steps(a)} - seen
            seen |= ring
        return self.sample(0)

    def _ranks(self, architecture: Architecture) -> list[float]:
        return [position(self.genes[n], v) / len(self.genes[n].options) for n, v in architecture.items()]

    @property
    def size(self) -> int:
        """Number of distinct architectures: exact if `size_is_exact`, else an upper bound."""
        return self._size()[0]

    @property
    def size_is_exact(self) -> bool:
        return self._size()[1]

    def _size(self) -> tuple[int, bool]:
        bound = count(self.genes, self._conditions)
        if self.rows_suffice:
            return bound, True
        if bound > (ENUMERABLE if self._ruled else REPLAYABLE):
            return bound, False
        return sum(1 for _ in self.enumerate()), True

    def enumerate(self) -> Iterator[Architecture]:
        """Every allowed architecture, once, in the order of the options.

        Like an odometer: a walk follows a prefix of choices, then takes first options; the last wheel that can, turns.
        """
        prefix: list[int] = []
        while True:
            wheels: list[tuple[int, int]] = []  # (choice, number of options)

            def choose(gene: Gene, wheels: list[tuple[int, int]] = wheels, prefix: list[int] = prefix) -> GeneValue:
                at = prefix[len(wheels)] if len(wheels) < len(prefix) else 0
                wheels.append((at, len(gene.options)))
                return gene.options[at]

            architecture = self.walk(choose)
            if self.allows(architecture):
                yield architecture
            while wheels and wheels[-1][0] + 1 == wheels[-1][1]:
                wheels.pop()
            if not wheels:
                return
            prefix = [at for at, _ in wheels[:-1]] + [wheels[-1][0] + 1]

    def first(self, n: int) -> list[Architecture]:
        """The first `n` architectures of the enumeration (fewer where the space is smaller)."""
        return list(islice(self.enumerate(), n))


def _pick(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.integers(len(options)))]


def _kept(gene: Gene, architecture: Architecture) -> GeneValue:
    """The gene as it is in `architecture`, or its top where it is new or no longer offered."""
    value = architecture.get(gene.name, gene.top)
    return value if value in gene.options else gene.top


def _mutated(gene: Gene, architecture: Architecture, changes: bool, rng: np.random.Generator) -> GeneValue:
    value = architecture.get(gene.name)
    if gene.name not in architecture or value not in gene.options:
        return _pick(gene.options, rng)
    if not changes or len(gene.options) == 1:
        return value
    at = position(gene, value)
    if gene.nested and rng.random() < 0.5:
        return gene.options[_pick([i for i in (at - 1, at + 1) if 0 <= i < len(gene.options)], rng)]
    return _pick([o for i, o in enumerate(gene.options) if i != at], rng)
