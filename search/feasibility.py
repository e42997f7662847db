"""The net of the least cost, and the genes that hold it up: whether a limit can be kept, before anything is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isnan

from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace

Measure = Callable[[Architecture], float]
MOST_NAMED = 3


@dataclass(frozen=True)
class Blame:
    """A gene that holds up the net of the least cost: it stands at the smallest option of the space, and still costs.

    step: what its next option would cost on top, in the unit of the measure.
    """

    gene: str
    value: object
    step: float


def least(space: GeneSpace, measure: Measure) -> Architecture:
    """The architecture with the smallest `measure` that descent over single decisions finds, from the smallest net."""
    best, value = space.smallest, _finite(measure(space.smallest))
    while True:
        scored = [(_finite(measure(n)), n) for n in space.neighbours(best)]
        improved = min(scored, key=lambda s: (s[0], s[1].id), default=(value, best))
        if improved[0] >= value:
            return best
        value, best = improved


def _finite(value: float) -> float:
    """A value that is not a number cannot be the least."""
    return inf if isnan(value) else value


def blame(space: GeneSpace, net: Architecture, measure: Measure) -> list[Blame]:
    """The nested genes at their smallest option whose next option costs most: a smaller one would help most there."""
    base = measure(net)
    results = []
    for other in space.neighbours(net):
        for name, value in net.items():
            options = space.genes[name].options
            if space.genes[name].nested and value == options[0] and other.get(name) in options[1:2]:
                results.append(Blame(name, value, measure(other) - base))
    ranked = sorted(results, key=lambda b: (-b.step, b.gene))
    return [b for b in ranked if b.step > 0][:MOST_NAMED]


def sentence(blames: Sequence[Blame], unit: str) -> str:
    """`width=32 (its smallest; the next costs 0.4 ms more), ...`."""
    named = (f"{b.gene}={b.value} (its smallest; the next costs {b.step:.3g} {unit} more)" for b in blames)
    return ", ".join(named) or "what no gene can make smaller"
