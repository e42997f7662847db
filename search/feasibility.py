"""Can the budget be met at all, and does it bind? Said before anything is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace

Measure = Callable[[Architecture], float]
MOST_NAMED = 3


@dataclass(frozen=True)
class Blame:
    """A gene that holds the fastest net up: its value there, and what the next option would cost on top (same unit)."""

    gene: str
    value: object
    step: float


def least(space: GeneSpace, measure: Measure) -> Architecture:
    """The architecture with the smallest `measure` that descent over single decisions finds, from the smallest net."""
    best, value = space.smallest, measure(space.smallest)
    while True:
        scored = [(measure(n), n) for n in space.neighbours(best)]
        improved = min(scored, key=lambda s: (s[0], s[1].id), default=(value, best))
        if improved[0] >= value:
            return best
        value, best = improved


def blame(space: GeneSpace, fastest: Architecture, measure: Measure) -> list[Blame]:
    """The genes whose next option costs most: each is at its end of the space, where a smaller one would help."""
    base = measure(fastest)
    steps: dict[str, float] = {}
    for other in space.neighbours(fastest):
        changed = [n for n in fastest if other.get(n, fastest[n]) != fastest[n]]
        gain = measure(other) - base
        for name in changed[:1]:
            steps[name] = min(gain, steps.get(name, gain))
    ranked = sorted(steps.items(), key=lambda s: -s[1])
    return [Blame(name, fastest[name], step) for name, step in ranked[:MOST_NAMED] if step > 0]


def sentence(blames: Sequence[Blame]) -> str:
    """`width=32 (+0.4 ms to the next), ...`."""
    return ", ".join(f"{b.gene}={b.value} (the next option costs {b.step:.3g} ms more)" for b in blames)
