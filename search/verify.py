"""Nets of the front are measured before the answer is given, where the device is at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import Infeasible
from ..hw_profiles import Latency, Measurement
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
    measured_ms: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def verify(candidates: Candidates, ranked: Sequence[Architecture], bound: float | None) -> Verdict:
    """The first of `ranked` (best first); on a device at hand, the first whose measured latency keeps the bound.

    Error: Infeasible, if none does.
    """
    device = candidates.device
    if not device.measurable:
        latency = candidates.latency(ranked[0])
        return Verdict(ranked[0], latency, notes=[_unmeasured(candidates, latency, bound)])
    measured: dict[str, float] = {}
    fallen: list[str] = []
    for start in range(0, len(ranked), GROUP):
        group = ranked[start : start + GROUP]
        timed = candidates.measure(group, SECONDS)
        measured |= {a.id: m.median_ms for a, m in zip(group, timed, strict=True)}
        for architecture, m in zip(group, timed, strict=True):
            if _keeps(m, bound):
                return Verdict(architecture, _as_latency(candidates, architecture, m), measured, fallen)
            guess = candidates.latency(architecture).mean_ms
            fallen.append(
                f"Net {architecture.id} was predicted at {guess:.3g} ms; it took {m.median_ms:.3g} ms: too slow."
            )
    raise Infeasible(
        "every net of the front missed the budget when it was measured; raise the budget or calibrate anew"
    )


def _keeps(m: Measurement, bound: float | None) -> bool:
    return bound is None or m.median_ms * (1 + max(m.noise, REPEAT)) <= bound


def _as_latency(candidates: Candidates, architecture: Architecture, m: Measurement) -> Latency:
    spread = max(m.noise, REPEAT)
    low, high = m.median_ms * (1 - spread), m.median_ms * (1 + spread)
    return Latency(m.median_ms, low, high, "measured", candidates.latency(architecture).tier)


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
