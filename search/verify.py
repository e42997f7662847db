"""Nets of the front are measured before the answer is given, where the device is at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import Infeasible
from ..hw_profiles import Latency, Measurement
from ..hw_profiles.models.latency import Tier
from ..search_space.architecture import Architecture
from .candidates import Candidates

GROUP = 6
SECONDS = 1.0
"""Time limit of a measurement, per net."""
REPEAT = 0.02
"""What a measurement moves from one process to the next: a net keeps a budget only with this much to spare."""


@dataclass(frozen=True)
class Verdict:
    """The chosen net, its latency, and what was measured on the way, by the nets' ids."""

    architecture: Architecture
    latency: Latency
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def verify(
    candidates: Candidates, ranked: Sequence[Architecture], bound: float | None, p95_bound: float | None = None
) -> Verdict:
    """The first of `ranked` (best first); on a device at hand, the first whose measured latency keeps the bounds.

    bound: on the median of its calls, p95_bound: on their 95th percentile; milliseconds. Error: Infeasible, if none
    does.
    """
    device = candidates.device
    if not device.measurable:
        latency = candidates.latency(ranked[0])
        return Verdict(ranked[0], latency, notes=[_unmeasured(candidates, latency, bound)])
    measured: dict[str, Measurement] = {}
    fallen: list[str] = []
    for start in range(0, len(ranked), GROUP):
        group = ranked[start : start + GROUP]
        timed = candidates.measure(group, SECONDS)
        measured |= {a.id: m for a, m in zip(group, timed, strict=True)}
        for architecture, m in zip(group, timed, strict=True):
            late = _late(candidates, architecture, m, bound, p95_bound)
            if late is None:
                return Verdict(architecture, as_latency(m, candidates.latency(architecture).tier), measured, fallen)
            fallen.append(late)
    raise Infeasible(
        "every net of the front missed the budget when it was measured; loosen the limit or calibrate anew"
    )


def _late(
    candidates: Candidates, net: Architecture, m: Measurement, bound: float | None, p95_bound: float | None
) -> str | None:
    """Why a net that was measured falls out; None: it keeps the bounds."""
    for took, most, predicted, words in (
        (m.median_ms, bound, candidates.latency, ""),
        (m.p95_ms, p95_bound, candidates.p95, " in the 95th percentile of its calls"),
    ):
        if most is not None and took * (1 + max(m.noise, REPEAT)) > most:
            guess = predicted(net).mean_ms
            return f"Net {net.id} was predicted at {guess:.3g} ms{words}; it took {took:.3g} ms: too slow."
    return None


def as_latency(m: Measurement, tier: Tier, *, p95: bool = False) -> Latency:
    """What was measured, with what it moves from one process to the next; p95: the 95th percentile."""
    ms, spread = m.p95_ms if p95 else m.median_ms, max(m.noise, REPEAT)
    return Latency(ms, ms * (1 - spread), ms * (1 + spread), "measured", tier)


def _unmeasured(candidates: Candidates, latency: Latency, bound: float | None) -> str:
    """What is not known. Of a datasheet no budget in milliseconds is claimed to be kept."""
    device = candidates.device
    if latency.tier != "D" or bound is None:
        return f"Latency is {latency.source}, not measured: {device.title} is not at hand."
    return (
        f"Nobody can promise {bound:.3g} ms here: of {device.title} with this kind of net only the datasheet speaks "
        f"(tier D, {latency.low_ms:.3g} to {latency.high_ms:.3g} ms). The nets are ranked by it; "
        "`nas profile pack` makes a bundle that measures them on the device."
    )
