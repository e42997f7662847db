"""Nets of the front are measured before the answer is given, where the device is at hand.

Machines change their pace, by 1.3 to 1.9 times on shared ones. Each group of nets is therefore timed in turns with one
reference, the largest net of the space, and what a net took is divided by how fast the reference shows the machine to
be: nets that were timed in different moments are compared at one pace, and a budget in per cent is a share of what the
largest net takes in the same moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, hypot, log
from statistics import median

from ..errors import Infeasible
from ..hw_profiles import Measurement
from ..hw_profiles.measuring.serving import Served
from ..search_space.architecture import Architecture
from ..values import LATENCY, P95, TPOT, TTFT, Estimate, Limit, Metric, Tier
from .calibration import SLACK
from .candidates import Candidates
from .costs import COSTS
from .limits import AppliedLimit

GROUP = 6
SECONDS = 1.0
"""Time limit of a measurement, per net."""
REPEAT = 0.02
"""What a measurement moves from one process to the next: a net keeps a budget only with this much to spare."""
_ms = LATENCY.text
OTHER_PACE = 0.09
"""How much ratios of nets differ from one pace of a machine to another (`hw_profiles.measuring.timing`)."""
MOST_NAMED = 3
CHOSEN, FITS = "chosen", "fits"
"""What came of a net, where it did not fall out."""


@dataclass(frozen=True)
class Verdict:
    """The chosen net and its latency.

    measured: what the nets took, by id, all at one pace of the machine. fallen: why nets fell out, by id. bound_ms: on
    the latency, as it was compared with what was measured.
    """

    architecture: Architecture
    latency: Estimate
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fallen: Mapping[str, str] = field(default_factory=dict)
    bound_ms: float | None = None
    least: float = REPEAT
    """Half-width of a measured interval at least, as a share."""

    def of(self, net: str) -> str:
        """What came of the net of that id, in a word or a sentence; nothing: it was not measured."""
        if net == self.architecture.id:
            return CHOSEN
        return self.fallen.get(net, FITS if net in self.measured else "")


def verify(
    candidates: Candidates,
    ranked: Sequence[Architecture],
    limits: Sequence[AppliedLimit] = (),
    losses: Mapping[str, float] | None = None,
) -> Verdict:
    """The first of `ranked` (best first); on a device at hand, the best of those that keep the bounds when measured.

    limits: on what is measured of a call, or of a request, on this device. losses: quality by id, the smaller the
    better; of equal nets the fastest is chosen. Default: each net is better than those behind it. Error: Infeasible, if
    no net keeps the limits.
    """
    if not candidates.device.measurable:
        latency = candidates.latency(ranked[0])
        bound = next((each.upper for each in limits if each.limit.metric == LATENCY), None)
        return Verdict(ranked[0], latency, notes=[_unmeasured(candidates, latency, bound)], bound_ms=bound)
    losses = losses or {net.id: float(place) for place, net in enumerate(ranked)}
    trial = _Trial(candidates, [each.limit for each in limits])
    for start in range(0, len(ranked), GROUP):
        trial.measure(ranked[start : start + GROUP])
        chosen = trial.best(ranked, losses)
        rest = ranked[start + GROUP :]
        if chosen is not None and not trial.undecided(chosen, rest, losses):
            return trial.verdict(chosen, ranked)
    raise Infeasible(trial.in_vain(ranked))


class _Trial:
    """The measurements of one answer.

    base: milliseconds that the reference takes at the pace at which all is compared. measured: at that pace, by id.
    paces: of the machine in each group, as a multiple of that pace. limits: relative ones until the reference was
    measured.
    """

    def __init__(self, candidates: Candidates, limits: Sequence[Limit]) -> None:
        self.candidates, self.limits = candidates, limits
        self.reference = candidates.supernet.space.largest
        self.base = 0.0
        self.measured: dict[str, Measurement] = {}
        self.paces: list[float] = []

    def measure(self, group: Sequence[Architecture]) -> None:
        """Time the nets of a group in turns with the reference."""
        nets = list(dict.fromkeys([self.reference, *group]))
        timed = self.candidates.measure(nets, SECONDS)
        if not self.paces:
            self.base = self._base(nets, timed)
            reference = timed[0].at_pace(timed[0].median_ms / self.base, timed[0].noise)
            self.limits = [_absolute(limit, reference) for limit in self.limits]
        pace = timed[0].median_ms / self.base
        self.paces.append(pace)
        for net, m in zip(nets, timed, strict=True):
            noise = m.noise if net == self.reference else hypot(m.noise, timed[0].noise)
            self.measured.setdefault(net.id, m.at_pace(pace, noise))

    def _base(self, nets: Sequence[Architecture], timed: Sequence[Measurement]) -> float:
        """What the reference takes now; where all nets are off by one factor, what is predicted for it.

        Then it is the machine that has changed since nets of the space were timed, and the predictions are right.
        """
        ratios = [log(m.median_ms / self.predicted(net)) for net, m in zip(nets, timed, strict=True)]
        model = self.candidates.device.model
        tolerance = max(log(SLACK), log(model.high_factor) if model else 0.0)
        alike = median(abs(ratio - ratios[0]) for ratio in ratios[1:] or ratios) <= tolerance
        return timed[0].median_ms if abs(ratios[0]) <= tolerance or not alike else self.predicted(nets[0])

    def predicted(self, net: Architecture) -> float:
        return self.candidates.latency(net).value

    def keeps(self, net: Architecture) -> bool:
        return net.id in self.measured and self.exceeded(self.measured[net.id]) is None

    def exceeded(self, m: Measurement) -> Limit | None:
        """The first limit that a net does not keep with `REPEAT` to spare."""
        kept = 1 + max(m.noise, REPEAT)
        return next((limit for limit in self.limits if _time(m, limit.metric) * kept > limit.upper), None)

    def best(self, ranked: Sequence[Architecture], losses: Mapping[str, float]) -> Architecture | None:
        """The best net that keeps the bounds. One that is measured no slower than it keeps them as well."""
        first = next((net for net in ranked if self.keeps(net)), None)
        if first is None:
            return None
        own = self.measured[first.id]
        fits = [
            net
            for net in ranked
            if (m := self.measured.get(net.id))
            and all(
                _time(m, metric) <= _time(own, metric) for metric in (LATENCY, *(each.metric for each in self.limits))
            )
        ]
        return min(fits, key=lambda net: (losses[net.id], self.measured[net.id].median_ms))

    def undecided(self, chosen: Architecture, rest: Sequence[Architecture], losses: Mapping[str, float]) -> bool:
        """Whether a net that was not measured is as good and predicted to be faster."""
        took = self.measured[chosen.id].median_ms
        return any(losses[net.id] <= losses[chosen.id] and self.predicted(net) < took for net in rest)

    def verdict(self, chosen: Architecture, ranked: Sequence[Architecture]) -> Verdict:
        tier = self.candidates.latency(chosen).tier
        least = OTHER_PACE if any(abs(log(pace)) > log(SLACK) for pace in self.paces) else REPEAT
        latency = as_estimate(self.measured[chosen.id], tier, least=least)
        fallen = {net.id: why for net in ranked if net != chosen and (why := self._why(net))}
        notes = [note for note in (self._pace_note(chosen), self._fallen_note(chosen, ranked, fallen)) if note]
        bound = next((limit.upper for limit in self.limits if limit.metric == LATENCY), None)
        return Verdict(chosen, latency, self.measured, notes, fallen, bound, least)

    def _why(self, net: Architecture) -> str:
        """Why a net fell out; nothing: it did not."""
        limit = self.exceeded(self.measured[net.id]) if net.id in self.measured else None
        if limit is None:
            return ""
        guess, took = (
            COSTS[limit.metric.name].estimate(self.candidates, net).value,
            _time(self.measured[net.id], limit.metric),
        )
        what = {LATENCY: "", P95: " in the 95th percentile of its calls"}.get(limit.metric, f" {limit.metric.title}")
        return f"predicted at {_ms(guess)}{what}; it took {_ms(took)}: too slow for {_ms(limit.upper)}"

    def _fallen_note(
        self, chosen: Architecture, ranked: Sequence[Architecture], fallen: Mapping[str, str]
    ) -> str | None:
        """Which nets would have been chosen as predicted, in one sentence."""
        before = [net for net in ranked[: ranked.index(chosen)] if net.id in fallen]
        if not before:
            return None
        named = "; ".join(f"net {net.id} was {fallen[net.id]}" for net in before[:MOST_NAMED])
        more = f"; and {len(before) - MOST_NAMED} more" if len(before) > MOST_NAMED else ""
        count = "1 net" if len(before) == 1 else f"{len(before)} nets"
        return (
            f"{count} that would come before the chosen one fell out when measured: {named}{more}.{self._off(before)}"
        )

    def _off(self, nets: Sequence[Architecture]) -> str:
        """By how much predictions are off, where that is why nets are too slow."""
        ratios = [self.measured[net.id].median_ms / self.predicted(net) for net in nets]
        return f" They took {_span(ratios)} times the predicted latency." if min(ratios) > 1 + REPEAT else ""

    def _pace_note(self, chosen: Architecture) -> str | None:
        if all(abs(log(pace)) <= log(SLACK) for pace in self.paces):
            return None
        ms = self.measured[chosen.id].median_ms
        now = ms * exp(median(map(log, self.paces)))
        return (
            "This machine changed its pace: while nets were measured for the answer, the largest net took "
            f"{_span(self.paces)} times the {_ms(self.base)} by which nets are compared. All nets change alike, so "
            f"what was measured is divided by that; the chosen net, stated at {_ms(ms)}, then took {_ms(now)}. "
            "A budget in per cent is a share of what the largest net took in the same moments."
        )

    def in_vain(self, ranked: Sequence[Architecture]) -> str:
        """What to say where every net fell out."""
        fastest = min(ranked, key=lambda net: self.measured[net.id].median_ms)
        return (
            f"every net of the front missed the budget when it was measured; the fastest, {fastest.id}, was "
            f"{self._why(fastest)}.{self._off(ranked)} Loosen the limit, or calibrate again"
        )


def _time(m: Measurement, metric: Metric) -> float:
    if isinstance(m, Served) and metric in (TTFT, TPOT):
        return m.ttft_ms if metric == TTFT else m.tpot_ms
    return m.p95_ms if metric == P95 else m.median_ms


def _absolute(limit: Limit, reference: Measurement) -> Limit:
    """In milliseconds, where the largest net takes as long as measured."""
    upper = limit.upper * _time(reference, limit.metric)
    return replace(limit, upper=upper, relative=False) if limit.relative else limit


def _span(values: Sequence[float]) -> str:
    """`1.75`, or `1.7 to 1.8`."""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def as_estimate(m: Measurement, tier: Tier, metric: Metric = LATENCY, *, least: float = REPEAT) -> Estimate:
    """What was measured, with what it moves from one process to the next, at least the share `least`."""
    ms, spread = _time(m, metric), max(m.noise, least)
    return Estimate(metric, ms, ms * (1 - spread), ms * (1 + spread), "measured", tier)


def _unmeasured(candidates: Candidates, latency: Estimate, bound: float | None) -> str:
    """What is not known. Of a datasheet no budget in milliseconds is claimed to be kept."""
    device = candidates.device
    if latency.tier != "D" or bound is None:
        return f"Latency is {latency.source}, not measured: {device.title} is not at hand."
    return (
        f"{_ms(bound)} cannot be promised: for {device.title} with this kind of net only the datasheet is available "
        f"(tier D, {latency.low:.3g} to {latency.high:.3g} ms). The ranking of nets follows it; "
        "`nas profile pack` makes a bundle that measures them on the device."
    )
