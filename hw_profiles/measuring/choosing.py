"""Which nets a profile times: a spread over cost, nets that tell most of the others, and then some again."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..device import Device
from ..models.residual import covariance
from ..models.roofline import tabulate
from .measure import FEWEST
from .pool import Net, Source, draw, spread, telling
from .session import Session

BATCH = 12
"""Nets timed in turns. More would hold more memory; fewer would know less of the drift."""
POOL = 300
AGAIN = 8
"""Nets that are timed once more at the end."""
SPREAD = 0.2
"""Share of the nets that is spread over cost, so that no end of the space is left to extrapolation."""


@dataclass(frozen=True)
class Plan:
    """What may be timed, and which of it is (indices)."""

    device: Device
    pool: tuple[Net, ...]
    chosen: tuple[int, ...]

    @property
    def nets(self) -> list[Net]:
        return [self.pool[i] for i in self.chosen]


def pool_of(spaces: Sequence[Source], device: Device, seed: int) -> list[Net]:
    """The nets that may be chosen: of each space the same number."""
    return [net for source in spaces for net in draw(source, POOL // len(spaces), device.precision, seed)]


def chosen_of(pool: Sequence[Net], device: Device, nets: int) -> list[int]:
    """Indices of the nets to time. What a net tells of another follows from their operators, before any was timed."""
    table = tabulate([device.as_run(net.cost) for net in pool], device.precision)
    return telling(covariance(table, device.prior().rates), _spread(pool, device, nets), min(nets, len(pool)))


def _spread(pool: Sequence[Net], device: Device, nets: int) -> list[int]:
    """Evenly over the logarithm of the expected latency, of each space the same number."""
    wanted = min(nets, len(pool), max(FEWEST, round(SPREAD * nets)))
    families = sorted({net.source.family for net in pool})
    chosen: list[int] = []
    for number, family in enumerate(families):
        members = [i for i, net in enumerate(pool) if net.source.family == family]
        share = wanted // len(families) + (number < wanted % len(families))
        expected = [device.latency(pool[i].cost).value for i in members]
        chosen += [members[k] for k in spread(expected, share)]
    return chosen


def reference_of(pool: Sequence[Net]) -> Net:
    """The net of the middle cost: it feels what the others feel, be it a slower clock or a busy memory bus."""
    ordered = sorted(pool, key=lambda net: (net.cost.flops, net.key))
    return ordered[len(ordered) // 2]


def next_nets(plan: Plan, session: Session) -> list[Net]:
    """The next batch of nets that were not timed yet; empty when all are."""
    timed = session.timed()
    left = [net for net in plan.nets if net.key not in timed]
    return left[:: -(-len(left) // BATCH)] if left else []


def nets_again(plan: Plan, session: Session) -> list[Net]:
    """Nets that were timed the longest ago, spread over their latency; empty when that is done."""
    if session.timed(again=True):
        return []
    oldest = list(session.timed().values())[:BATCH]
    by_key = {net.key: net for net in plan.pool}
    return [by_key[oldest[i].key] for i in spread([timed.median_ms for timed in oldest], AGAIN)]
