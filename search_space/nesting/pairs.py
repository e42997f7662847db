"""Which nets are compared: each gene at its top and below, in every context that may change what it means."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ..architecture import Architecture, GeneValue
from ..corner import fits
from ..paths import kind_of, numbers_in
from ..probe import Probe, Probed
from ..trial import Gene

MOST_LATER = 24


@dataclass(frozen=True)
class Step:
    """One gene changed: probes of the larger and of the smaller net, and what the gene is in each."""

    gene: Gene
    large: Probe
    small: Probe

    @property
    def values(self) -> tuple[GeneValue, GeneValue]:
        return self.large.architecture[self.gene.name], self.small.architecture[self.gene.name]

    @property
    def nested(self) -> bool:
        """Whether every shared parameter of the small net is a corner of the large one's."""
        shared = self.small.layouts.keys() & self.large.layouts.keys()
        return all(fits(self.small.layouts[n], self.large.layouts[n]) for n in shared)

    @property
    def adds(self) -> bool:
        """Whether the small net has parameters that the large one does not have."""
        return not self.small.layouts.keys() <= self.large.layouts.keys()

    @property
    def moves(self) -> tuple[tuple[str, object, object], ...]:
        """The parameters that differ, without the numbers of layers in their names."""
        names = self.small.layouts.keys() | self.large.layouts.keys()
        pairs = ((kind_of(n), self.large.layouts.get(n), self.small.layouts.get(n)) for n in sorted(names))
        return tuple(dict.fromkeys(p for p in pairs if p[1] != p[2]))


class _Seen:
    """What is asked of a space here, with every probe made once."""

    def __init__(self, space: Probed) -> None:
        self.genes, self.allows, self.probes = space.genes, space.allows, space.probes
        self._probe = space.probe
        self._by_choices = {p.architecture: p for p in space.probes}

    def probe(self, choices: Mapping[str, GeneValue]) -> Probe:
        key = Architecture(choices)
        if key not in self._by_choices:
            self._by_choices[key] = self._probe(choices)
        return self._by_choices[key]


def steps(probed: Probed) -> Iterator[Step]:
    """Every gene's top against its lowest and its second highest option, every alternative against the first.

    Again under every other alternative that makes the gene move other parameters; then, up to a number of steps, under
    those that may give the same parameters another meaning. Layers that look alike are compared once; the last one of
    a kind is compared as well.
    """
    space = _Seen(probed)
    last = {kind_of(name): name for name in space.genes}
    seen: set[object] = set()
    later: list[Step] = []
    for gene in space.genes.values():
        for index, context in enumerate(_contexts(space, gene)):
            for step in _from(space, gene, context):
                mark = (kind_of(gene.name), step.values, step.moves)
                if mark not in seen or (not index and last[kind_of(gene.name)] == gene.name):
                    yield step
                elif index and gene.nested and _others(step, space) not in seen:
                    later.append(step)
                    seen.add(_others(step, space))
                else:
                    break  # the other options are alike as well
                seen.add(mark)
    yield from later[:MOST_LATER]


def _others(step: Step, space: _Seen) -> object:
    """The gene and the alternatives of the context that differ from the first, by kind."""
    architecture = step.large.architecture
    flipped = (n for n in architecture if not space.genes[n].nested and architecture[n] != space.genes[n].top)
    return kind_of(step.gene.name), step.values, frozenset((kind_of(n), architecture[n]) for n in flipped)


def _contexts(space: _Seen, gene: Gene) -> list[Probe]:
    """The first net with the gene, and those that differ from it by one alternative that may concern the gene."""
    having = [p for p in space.probes if gene.name in p.architecture and space.allows(p.architecture)]
    if not having:
        return []
    first = having[0]
    top = {n: v for n, v in first.architecture.items() if n != gene.name}
    contexts = [first] if first.architecture[gene.name] == gene.top else [space.probe({**top, gene.name: gene.top})]
    seen: set[object] = set()
    for other in space.genes.values():
        if other.name == gene.name or other.nested or not _concerns(other.name, gene.name):
            continue
        for option in other.options[1:]:
            mark = (kind_of(other.name), option)
            probe = space.probe({**top, other.name: option, gene.name: gene.top}) if mark not in seen else first
            if probe.architecture.get(other.name) == option and gene.name in probe.architecture:
                contexts.append(probe)
                seen.add(mark)
    allowed = {p.architecture: p for p in contexts if space.allows(p.architecture)}
    return list(allowed.values()) or [first]


def _concerns(other: str, name: str) -> bool:
    """Genes of one layer concern each other, and those of the whole net all; those of other layers do not."""
    return all(x == y for x, y in zip(numbers_in(other), numbers_in(name), strict=False))


def _from(space: _Seen, gene: Gene, context: Probe) -> Iterator[Step]:
    """To the lowest and the second highest option; to every alternative."""
    top = context.architecture[gene.name]
    options = [o for o in gene.options if o is not top]
    smaller = _allowed(space, gene, context, options)
    yield from (_step(gene, context, p) for p in (islice(smaller, 1) if gene.nested else smaller))
    if gene.nested:
        above = islice(_allowed(space, gene, context, options[:0:-1]), 1)
        yield from (_step(gene, context, p) for p in above)


def _allowed(space: _Seen, gene: Gene, context: Probe, options: Sequence[GeneValue]) -> Iterator[Probe]:
    for option in options:
        probe = space.probe({**context.architecture, gene.name: option})
        if probe.architecture != context.architecture and space.allows(probe.architecture):
            yield probe


def _step(gene: Gene, context: Probe, other: Probe) -> Step:
    """The larger net first, if one is nested in the other."""
    step, back = Step(gene, context, other), Step(gene, other, context)
    return back if back.nested and (not step.nested or _is_smaller(context, other)) else step


def _is_smaller(a: Probe, b: Probe) -> bool:
    """Whether `a` has fewer weights than `b`."""
    return a.size[0] < b.size[0]
