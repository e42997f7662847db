"""What a net may cost: limits on its devices, whether any net of a space keeps them, and constraints for a search."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from ..errors import Infeasible, UserError
from ..search_space.architecture import Architecture
from ..values import Estimate, Limit
from .candidates import Candidates
from .costs import CostMetric, cost_named, on_device
from .feasibility import blame, least, sentence
from .objectives import Constraint


@dataclass(frozen=True)
class AppliedLimit:
    """A limit as it applies to nets on one device.

    where: the name of the device; empty for the first device, and where no device matters.
    """

    limit: Limit
    candidates: Candidates
    where: str = ""

    @property
    def cost(self) -> CostMetric:
        return cost_named(self.limit.metric.name)

    @property
    def name(self) -> str:
        """Of the cost, as of an objective: `energy_mj on t4`."""
        return on_device(self.limit.metric.name, self.where)

    @property
    def title(self) -> str:
        """For people: `energy on t4`."""
        return on_device(self.limit.metric.title, self.where)

    @property
    def constraint(self) -> Constraint:
        name = on_device(self.limit.metric.column("bound"), self.where)
        return Constraint(name, upper=self.upper, function=self.bounded)

    @cached_property
    def upper(self) -> float:
        """The most, in the unit of the metric."""
        if not self.limit.relative:
            return self.limit.upper
        return self.limit.upper * self.estimate(self.candidates.supernet.space.largest).value

    @property
    def measured(self) -> bool:
        """Nets are measured before one is chosen."""
        return self.cost.measured and self.candidates.device.measurable

    def estimate(self, net: Architecture) -> Estimate:
        return self.cost.estimate(self.candidates, net)

    def bounded(self, net: Architecture) -> float:
        """The number that is at most `upper`: the upper end of the interval where nothing else keeps the promise.

        Where nets are measured before one is chosen, it is the value itself, or the limit would be left unused. So it
        is for a relative limit: what is not known of the device stretches both sides alike.
        """
        result = self.estimate(net)
        return result.value if self.limit.relative or self.measured else result.high

    def may_keep(self, net: Architecture) -> bool:
        """Whether a measurement may find that the net keeps the limit; without one, whether it does."""
        return (self.estimate(net).low if self.measured else self.bounded(net)) <= self.upper

    def check(self) -> None:
        """Error: Infeasible, with the net of the least cost and what holds it up."""
        space = self.candidates.supernet.space
        if self.bounded(space.smallest) <= self.upper:
            return
        net = least(space, self.bounded)
        if self.bounded(net) > self.upper:
            raise Infeasible(self._infeasible(net))

    def _infeasible(self, net: Architecture) -> str:
        space, metric, result = self.candidates.supernet.space, self.limit.metric, self.estimate(net)
        end = "value" if self.limit.relative or self.measured else "upper end"
        bounds = "" if result.source == "counted" else f"; the limit bounds the {end}"
        blames = sentence(blame(space, net, self.bounded), metric.unit or metric.title)
        most = metric.text(self.bounded(net) * 1.01).replace(" ", "")
        if self.limit.relative:
            most = f"{ceil(100 * self.bounded(net) / self.estimate(space.largest).value)}%"
        return (
            f"no net of the space keeps {self.limit.text}. The least, of net {net.id}, is {result.text}{bounds}. "
            f"What holds it up: {blames}. The nearest feasible limit is {most}."
        )

    @property
    def notes(self) -> list[str]:
        """That the limit does not bind, if so."""
        most = self.bounded(self.candidates.supernet.space.largest)
        if most > self.upper:
            return []
        text = f"{self.limit.text[0].upper()}{self.limit.text[1:]}"
        return [f"{text} does not bind: even the largest net has {self.limit.metric.text(most)}."]


def check_devices(limits: Sequence[Limit], targets: Sequence[str]) -> None:
    """Error: a limit on a device that is none of the targets."""
    for limit in limits:
        if limit.device not in ("", *targets):
            raise UserError(
                f"there is a limit on {limit.device}, which is not a target; the targets are {', '.join(targets)}"
            )


def applied(served: Sequence[Candidates], limits: Sequence[Limit]) -> list[AppliedLimit]:
    """Each limit on each device on which it holds: on that of its name, without one on all.

    served: the same nets on their devices. Of a cost on a device only the tightest limit counts. Error: a limit on
    another device.
    """
    names = [candidates.device.name for candidates in served]
    check_devices(limits, names)
    results: dict[str, AppliedLimit] = {}
    for candidates, device in zip(served, names, strict=True):
        for limit in (each for each in limits if each.device in ("", device)):
            per_device = cost_named(limit.metric.name).per_device
            here = replace(limit, device=device if per_device else "")
            new = AppliedLimit(here, candidates, device if per_device and candidates is not served[0] else "")
            if new.name not in results or new.upper < results[new.name].upper:
                results[new.name] = new
    return list(results.values())
