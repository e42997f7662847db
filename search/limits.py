"""What a net may cost: limits, whether any net of a space can keep them, and the bounds that a search puts on them."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import Infeasible, UserError
from ..search_space.architecture import Architecture
from .candidates import Candidates
from .costs import PRICES, Price, price_of
from .feasibility import Measure, blame, least, sentence
from .objectives import Constraint
from .units import Budget


@dataclass(frozen=True)
class Elsewhere:
    """Another device that the same net has to serve, and what is allowed there, as of `Limits`."""

    candidates: Candidates
    budget: Budget | None = None
    upper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What the net may cost. elsewhere: other devices that the same net has to serve.

    budget: of the latency; None: none. upper: the most of other costs by their name, in the unit of the name.
    """

    budget: Budget | None = None
    upper: Mapping[str, float] = field(default_factory=dict)
    elsewhere: tuple[Elsewhere, ...] = ()

    def __post_init__(self) -> None:
        for name in {*self.upper, *(name for other in self.elsewhere for name in other.upper)}:
            if price_of(name).name == "latency_ms":
                raise UserError("the latency is limited by a budget: Limits(parse_budget('5ms'))")

    def devices(self, candidates: Candidates) -> list[Elsewhere]:
        """The first device, and the others, each with what is allowed there."""
        return [Elsewhere(candidates, self.budget, self.upper), *self.elsewhere]


@dataclass(frozen=True)
class Bound:
    """A limit as a search keeps it. name: of the constraint. measure: the number that is at most `upper`.

    least: of a limit that is kept by measuring nets before the answer, the lower end of what is predicted: a net whose
    least exceeds the bound is not worth a measurement. None: no measurement loosens the limit.
    """

    name: str
    upper: float
    measure: Measure
    least: Measure | None = None

    @property
    def said(self) -> str:
        """What is limited, in the words of an answer."""
        return self.name.replace("_bound_ms", "").replace("_bound", "")

    def may_keep(self, net: Architecture) -> bool:
        return (self.least or self.measure)(net) <= self.upper


def check_limits(candidates: Candidates, limits: Limits) -> tuple[float | None, list[str]]:
    """What `check_budget` says of the latency. Error: Infeasible too if no net keeps another limit by itself."""
    for on in limits.devices(candidates):
        for name, upper in on.upper.items():
            _check_upper(on.candidates, price_of(name), upper)
    bound, notes = check_budget(candidates, limits.budget)
    for other in limits.elsewhere:
        said = check_budget(other.candidates, other.budget)[1]
        notes += [f"On {other.candidates.device.name}: {note}" for note in said]
    return bound, notes


def _check_upper(candidates: Candidates, price: Price, upper: float) -> None:
    space, measure, unit = candidates.supernet.space, price.bounded(candidates), price.unit or price.name
    least_of_all = least(space, measure)
    if measure(least_of_all) > upper:
        raise Infeasible(
            f"no net of the space keeps {price.name} at most {f'{upper:.6g} {price.unit}'.strip()} on "
            f"{candidates.device.name}. The least, of net {least_of_all.id}, is {measure(least_of_all):.6g}"
            f"{price.end(candidates)}. "
            f"It is held up by {sentence(blame(space, least_of_all, measure), unit)}."
        )


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
            raise Infeasible(_infeasible(candidates, budget, fastest, largest.value))
    if upper(space.largest) <= bound:
        return bound, [f"The budget does not bind: even the largest net takes {upper(space.largest):.3g} ms."]
    return bound, []


def bound_of(candidates: Candidates, budget: Budget) -> float:
    """The budget in milliseconds."""
    if budget.ms is not None:
        return budget.ms
    return (budget.share or 0) * candidates.latency(candidates.supernet.space.largest).value


def _upper(candidates: Candidates, budget: Budget) -> Callable[[Architecture], float]:
    """The number that a budget bounds: the upper end where nothing else keeps the promise.

    On a machine at hand the nets are measured before one is chosen; there the mean is bounded, or the budget would be
    left unused. So it is for a budget in per cent: what is not known of the device stretches both sides alike.
    """

    def upper(architecture: Architecture) -> float:
        latency = candidates.latency(architecture)
        return latency.value if budget.ms is None or candidates.device.measurable else latency.high

    return upper


def _infeasible(candidates: Candidates, budget: Budget, fastest: Architecture, largest_ms: float) -> str:
    latency, upper = candidates.latency(fastest), _upper(candidates, budget)
    blames = blame(candidates.supernet.space, fastest, upper)
    share = math.ceil(100 * upper(fastest) / largest_ms)
    nearest = f"{upper(fastest) * 1.01:.3g}ms" if budget.ms is not None else f"{share}%"
    end = "mean" if budget.ms is None or candidates.device.measurable else "upper end"
    return (
        f"no net of the space keeps {budget.text} on {candidates.device.name}. The fastest, {fastest.id}, takes "
        f"{latency.value:.3g} ms ({latency.low:.3g} to {latency.high:.3g}, {latency.source}); the budget "
        f"bounds the {end}. It is held up by {sentence(blames, 'ms')}. "
        f"The nearest feasible budget is {nearest}."
    )


def bounds_of(candidates: Candidates, limits: Limits) -> list[Bound]:
    """All limits, on all devices; of what is the same on every device the tightest."""
    found: dict[str, Bound] = {}
    for on in limits.devices(candidates):
        for bound in _bounds_on(on, first=on.candidates is candidates):
            found[bound.name] = min(found.get(bound.name, bound), bound, key=lambda b: b.upper)
    return list(found.values())


def _bounds_on(on: Elsewhere, *, first: bool) -> list[Bound]:
    """Those on other devices than the first are named after the device, and no net is measured there."""
    candidates, where = on.candidates, "" if first else f" on {on.candidates.device.name}"

    def least_of(price: Price) -> Measure | None:
        settled = first and price.measured and candidates.device.measurable
        return (lambda net: price.of(candidates, net).low) if settled else None

    found = []
    if on.budget is not None:
        name, most = "latency_bound_ms" if first else f"latency{where}", bound_of(candidates, on.budget)
        found.append(Bound(name, most, _upper(candidates, on.budget), least_of(PRICES["latency_ms"])))
    for price, most in ((price_of(name), most) for name, most in on.upper.items()):
        name = (price.column("bound") if price.predicted else price.name) + (where if price.local else "")
        found.append(Bound(name, most, price.bounded(candidates), least_of(price)))
    return found


def constraints_of(bounds: Sequence[Bound], objectives: Collection[str]) -> list[Constraint]:
    """The limits as bounds of a search; what is an objective is not computed again."""
    return [Constraint(b.name, upper=b.upper, function=None if b.name in objectives else b.measure) for b in bounds]
