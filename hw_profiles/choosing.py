"""Which nets a profile times next: first a spread over cost, then where the model is least sure, then some again."""

from collections.abc import Sequence
from dataclasses import dataclass

from .device import Device
from .latency import predict
from .measure import FEWEST
from .pool import Net, Source, draw, least_sure, spread
from .profiled import TimedNet, fit_model
from .session import Session

BATCH = 12
"""Nets timed in turns. More would hold more memory; fewer would know less of the drift."""
POOL = 300
AGAIN = 8
"""Nets that are timed once more at the end."""
FIRST = 0.4
"""Share of the nets that is spread over cost, before the model can say where it is unsure."""


@dataclass(frozen=True)
class Plan:
    """What may be timed, what comes first (indices), and how many in all."""

    device: Device
    pool: tuple[Net, ...]
    first: tuple[int, ...]
    nets: int


def pool_of(found: Sequence[Source], device: Device, seed: int) -> list[Net]:
    """The nets that may be chosen: of each space the same number."""
    return [net for source in found for net in draw(source, POOL // len(found), device.precision, seed)]


def first_of(pool: Sequence[Net], device: Device, nets: int) -> list[int]:
    """Indices of the first nets: evenly over the logarithm of the expected latency, of each space the same number."""
    wanted = min(nets, len(pool), max(FEWEST, round(FIRST * nets)))
    families = sorted({net.source.family for net in pool})
    chosen: list[int] = []
    for number, family in enumerate(families):
        members = [i for i, net in enumerate(pool) if net.source.family == family]
        share = wanted // len(families) + (number < wanted % len(families))
        expected = [device.latency(pool[i].cost).mean_ms for i in members]
        chosen += [members[k] for k in spread(expected, share)]
    return chosen


def reference_of(pool: Sequence[Net]) -> Net:
    """The net of the middle cost: it feels what the others feel, be it a slower clock or a busy memory bus."""
    ordered = sorted(pool, key=lambda net: (net.cost.flops, net.key))
    return ordered[len(ordered) // 2]


def next_nets(plan: Plan, session: Session) -> list[Net]:
    """The next batch of nets that were not timed yet; empty when all are."""
    timed = session.timed()
    planned = [i for i in plan.first if plan.pool[i].key not in timed]
    if planned:
        return [plan.pool[i] for i in planned[:: -(-len(planned) // BATCH)]]
    wanted = min(BATCH, plan.nets - len(timed))
    if wanted <= 0:
        return []
    measured = [i for i, net in enumerate(plan.pool) if net.key in timed]
    known = [TimedNet(plan.pool[i].cost, timed[plan.pool[i].key], {}) for i in measured]
    model = fit_model(known, plan.device, 0.0)
    expected = [predict(model, net.cost).mean_ms for net in plan.pool]
    return [plan.pool[i] for i in least_sure(plan.pool, expected, measured, wanted)]


def nets_again(plan: Plan, session: Session) -> list[Net]:
    """Nets that were timed the longest ago, spread over their latency; empty when that is done."""
    if session.timed(again=True):
        return []
    oldest = list(session.timed().values())[:BATCH]
    by_key = {net.key: net for net in plan.pool}
    return [by_key[oldest[i].key] for i in spread([timed.median_ms for timed in oldest], AGAIN)]
