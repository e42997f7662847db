"""What a net may cost: limits, whether any net of a space can keep them, and the bounds that a search puts on them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import Infeasible
from ..search_space.architecture import Architecture
from .candidates import Candidates
from .feasibility import Measure, blame, least, sentence
from .objectives import Constraint
from .units import Budget


@dataclass(frozen=True)
class Elsewhere:
    """Another device that the same net has to serve, and the latency allowed there (None: any)."""

    candidates: Candidates
    budget: Budget | None = None

    @property
    def name(self) -> str:
        """Of the latency, as an objective."""
        return f"latency_ms on {self.candidates.device.name}"


@dataclass(frozen=True)
class Limits:
    """What the net may cost. None: no limit. elsewhere: other devices that the same net has to serve."""

    budget: Budget | None = None
    params: float | None = None
    memory_mib: float | None = None
    flops: float | None = None
    elsewhere: tuple[Elsewhere, ...] = ()


def check_limits(candidates: Candidates, limits: Limits) -> tuple[float | None, list[str]]:
    """What `check_budget` says of the latency. Error: Infeasible too if no net keeps another limit by itself."""
    space = candidates.supernet.space
    for name, upper, measure in _counted(candidates, limits):
        least_of_all = least(space, measure)
        if measure(least_of_all) > upper:
            found = f"The least, of net {least_of_all.id}, is {measure(least_of_all):.6g}"
            why = sentence(blame(space, least_of_all, measure), name)
            raise Infeasible(f"no net of the space keeps {name} at most {upper:.6g}. {found}. It is held up by {why}.")
    bound, notes = check_budget(candidates, limits.budget)
    for other in limits.elsewhere:
        said = check_budget(other.candidates, other.budget)[1]
        notes += [f"On {other.candidates.device.name}: {note}" for note in said]
    return bound, notes


def check_budget(candidates: Candidates, budget: Budget | None) -> tuple[float | None, list[str]]:
    """(bound on the latency in ms, notes). Error: Infeasible, with the fastest net and what holds it up.

    `_upper` says which number it bounds; one in per cent is a share of the largest net's mean.
    """
    if budget is None:
        return None, []
    space, upper = candidates.supernet.space, _upper(candidates, budget)
    largest, bound = candidates.latency(space.largest), bound_of(candidates, budget)
    if upper(space.smallest) > bound:
        fastest = least(space, upper)
        if upper(fastest) > bound:
            raise Infeasible(_infeasible(candidates, budget, fastest, largest.mean_ms))
    if upper(space.largest) <= bound:
        return bound, [f"The budget does not bind: even the largest net takes {upper(space.largest):.3g} ms."]
    return bound, []


def bound_of(candidates: Candidates, budget: Budget) -> float:
    """The budget in milliseconds."""
    if budget.ms is not None:
        return budget.ms
    return (budget.share or 0) * candidates.latency(candidates.supernet.space.largest).mean_ms


def _upper(candidates: Candidates, budget: Budget) -> Callable[[Architecture], float]:
    """The number that a budget bounds: the upper end where nothing else keeps the promise.

    On a machine at hand the nets are measured before one is chosen; there the mean is bounded, or the budget would be
    left unused. So it is for a budget in per cent: what is not known of the device stretches both sides alike.
    """

    def upper(architecture: Architecture) -> float:
        latency = candidates.latency(architecture)
        return latency.mean_ms if budget.ms is None or candidates.device.measurable else latency.high_ms

    return upper


def _infeasible(candidates: Candidates, budget: Budget, fastest: Architecture, largest_ms: float) -> str:
    latency, upper = candidates.latency(fastest), _upper(candidates, budget)
    blames = blame(candidates.supernet.space, fastest, upper)
    share = math.ceil(100 * upper(fastest) / largest_ms)
    nearest = f"{upper(fastest) * 1.01:.3g}ms" if budget.ms is not None else f"{share}%"
    end = "mean" if budget.ms is None or candidates.device.measurable else "upper end"
    return (
        f"no net of the space keeps {budget.text} on {candidates.device.name}. The fastest, {fastest.id}, takes "
        f"{latency.mean_ms:.3g} ms ({latency.low_ms:.3g} to {latency.high_ms:.3g}, {latency.source}); the budget "
        f"bounds the {end}. It is held up by {sentence(blames, 'ms')}. "
        f"The nearest feasible budget is {nearest}."
    )


def constraints_of(candidates: Candidates, limits: Limits, bound: float | None) -> list[Constraint]:
    """The limits as bounds of a search; bound: on the latency, as `check_limits` found it."""
    found = [Constraint(name, upper=upper, function=measure) for name, upper, measure in firm(candidates, limits)]
    if limits.budget is not None and bound is not None:
        found.insert(0, Constraint("latency_bound_ms", upper=bound, function=_upper(candidates, limits.budget)))
    return found


def firm(candidates: Candidates, limits: Limits) -> list[tuple[str, float, Measure]]:
    """(name, upper bound, function) of all limits that no measurement loosens: all but that on the latency."""
    elsewhere = [
        (f"latency on {o.candidates.device.name}", bound_of(o.candidates, o.budget), _upper(o.candidates, o.budget))
        for o in limits.elsewhere
        if o.budget is not None
    ]
    return [*_counted(candidates, limits), *elsewhere]


def _counted(candidates: Candidates, limits: Limits) -> list[tuple[str, float, Measure]]:
    counted: list[tuple[str, float | None, Measure]] = [
        ("params", limits.params, lambda a: candidates.cost(a).params),
        ("memory_mib", limits.memory_mib, candidates.memory_mib),
        ("flops", limits.flops, lambda a: candidates.cost(a).flops),
    ]
    return [(name, upper, measure) for name, upper, measure in counted if upper is not None]
