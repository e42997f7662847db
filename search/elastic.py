"""The nets of an answer's front, and what is known of each, for a file of all of them."""

from collections.abc import Iterator
from math import isnan

from ..supernet.elastic import Point
from ..values import LATENCY, Estimate
from .candidates import Candidates
from .costs import ALWAYS, cost_named
from .pipeline import Choice


def points_of(choice: Choice, candidates: Candidates) -> Iterator[Point]:
    """The front, in its order. The chosen net is called best, the others by their rows in front.csv: `front:2`."""
    for row, net in enumerate(choice.front_architectures):
        facts = choice.front.iloc[row]
        measured = float(facts["measured_ms"])
        latency = candidates.latency(net)
        if not isnan(measured):
            latency = Estimate(LATENCY, measured, measured, measured, "measured")
        costs = {name: cost_named(name).estimate(candidates, net) for name in ALWAYS}
        name = "best" if net.id == choice.architecture.id else f"front:{row + 1}"
        yield Point(name, net, float(facts[choice.metric.name]), {LATENCY.name: latency, **costs})
