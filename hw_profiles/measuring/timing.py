"""How nets are timed: in turns, beside a reference net. Needs numpy alone: it also runs on targets without PyTorch.

A turn is one call that is not timed (it warms the caches) and then timed calls for a few milliseconds, as in a process
that runs one net. In every round each net has a turn, in an order drawn anew. Between the turns the reference net has
its own: its readings say how fast the machine runs. What counts is the machine as it mostly is, or at its fastest
(`Protocol.quiet`). Left out, and measured again, are calls during which another process took the core, and turns beside
which the reference ran at another speed than that: a disturbance that lasts a moment hits some nets and not others. A
slow drift hits all alike; it is for the caller to divide it out, by the reference's medians. Rounds go on until each
net's median is known well enough.

Why medians of undisturbed calls, measured on a shared machine with 2 virtual cores (28 nets of 0.02 to 2 ms, passes of
40 s, minutes apart, other work on 2 to 4 threads): the median of small nets moved by 1 to 2 % in common, which the
reference removes, and by 0.2 to 0.3 % apart from that; the quarter quantile by 0.2 to 0.4 %, the minimum by 1 to 3 %.
Why turns of one speed alone: while neighbours share its cores, such a machine has two speeds, 1.3 to 1.9 times apart by
the net, and changes between them within seconds. Ratios of nets differ by 9 % (root mean square) from one to the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf, sqrt
from typing import TypeVar

import numpy as np

try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # Windows: no count of lost cores there, all calls are kept
    getrusage = None  # type: ignore[assignment]

GROUP = 8
"""Turns between two turns of the reference."""
FEWEST_KEPT = 5
FAST = 0.1
"""Share of the readings: a phase that is shorter cannot be distinguished from chance."""


@dataclass(frozen=True)
class Protocol:
    """How long to measure."""

    warmup: int = 3
    """Calls before anything is timed."""
    least_repeats: int = 20
    most_repeats: int = 2000
    seconds: float = 2.0
    """Time limit, per net."""
    precision: float = 0.01
    """Enough when the 95 % interval of the median is within +- this share of it."""
    turn_seconds: float = 0.004
    least_turns: int = 8
    disturbed: float = 0.1
    """A turn is measured again when the reference beside it was off by this share from what counts."""
    slow: float = 0.06
    """Nets that were timed together are timed again when the reference was slower by this share than at its best."""
    quiet: bool = False
    """What counts is the machine at its fastest, even if that is seldom: for numbers to compare with later ones. Else
    it is the machine as it mostly is: what a user gets now."""


@dataclass(frozen=True)
class Measurement:
    """Median and 95th percentile of single calls; `noise`: half-width of the median's 95 % interval, as a share."""

    median_ms: float
    p95_ms: float
    noise: float
    repeats: int
    left_out: float = 0.0
    """Share of the calls that were disturbed, and do not count."""

    def at_pace(self: M, pace: float, noise: float) -> M:
        """The same on a machine that takes 1 / pace of the time. noise: of the result."""
        times = {f.name: getattr(self, f.name) / pace for f in fields(self) if f.name.endswith("_ms")}
        return replace(self, **times, noise=noise)


M = TypeVar("M", bound=Measurement)


@dataclass(frozen=True)
class Turn:
    """Seconds of the calls that kept their core, and of those that did not; what the reference took beside them."""

    alone: list[float]
    others: list[float]
    beside: tuple[float, ...] = ()


@dataclass
class Pace:
    """How fast the machine runs: what the reference took, turn after turn."""

    tolerance: float
    quiet: bool
    fastest: float = inf
    """Seconds that it took before, where only the machine at its fastest counts."""
    readings: list[float] = field(default_factory=list)

    def bounds(self) -> tuple[float, float]:
        """Of readings beside which a turn counts."""
        if self.quiet:
            return 0.0, min(self.fastest, float(np.quantile(self.readings, FAST))) * (1 + self.tolerance)
        usual = typical(self.readings)
        return usual / (1 + self.tolerance), usual * (1 + self.tolerance)


def typical(values: Sequence[float]) -> float:
    """The median of the shortest interval that holds half of the values (the shorth; Rousseeuw 1985): where there are
    two heaps, a number from within the larger one."""
    ordered = np.sort(values)
    half = (len(ordered) + 1) // 2
    widths = ordered[half - 1 :] / ordered[: len(ordered) - half + 1]
    start = int(widths.argmin())
    return float(np.median(ordered[start : start + half]))


@dataclass
class Series:
    """One net's turns so far. `bounds`: see `Pace`; a turn outside them does not count."""

    call: Callable[[], object]
    calls: int = 1
    turns: list[Turn] = field(default_factory=list)
    bounds: tuple[float, float] = (0.0, inf)
    spent: float = 0.0

    def warm_up(self, protocol: Protocol) -> None:
        for _ in range(max(0, protocol.warmup - 1)):
            self.call()
        if protocol.warmup:
            once = _timed(self.call)[0]
            most = min(50, protocol.most_repeats, max(1, protocol.least_repeats))
            self.calls = int(min(max(protocol.turn_seconds / max(once, 1e-9), min(3, most)), most))

    def turn(self) -> Turn:
        if self.calls > 1:
            self.spent += _timed(self.call)[0]
        alone: list[float] = []
        others: list[float] = []
        for _ in range(self.calls):
            seconds, undisturbed = _timed(self.call)
            (alone if undisturbed else others).append(seconds)
        self.spent += sum(alone) + sum(others)
        return Turn(alone, others)

    def kept(self) -> list[list[float]]:
        """The calls that count, turn by turn."""
        low, high = self.bounds
        return [t.alone for t in self.turns if t.alone and all(low <= x <= high for x in t.beside)]

    def done(self, protocol: Protocol) -> bool:
        calls = sum(len(t.alone) + len(t.others) for t in self.turns)
        if calls >= protocol.most_repeats or self.spent >= protocol.seconds:
            return True
        kept = self.kept()
        enough = sum(map(len, kept)) >= protocol.least_repeats and len(kept) >= protocol.least_turns
        return enough and _half_width(kept) <= protocol.precision

    def summary(self, reference: float | None = None) -> Measurement:
        """Of the calls that count; of all where hardly any does, brought to the pace at which the reference took
        `reference` seconds by what it took beside each turn."""
        kept, calls = self.kept(), sum(len(t.alone) + len(t.others) for t in self.turns)
        left_out = 1 - sum(map(len, kept)) / calls
        if sum(map(len, kept)) < min(FEWEST_KEPT, calls):
            paces = [reference / float(np.mean(t.beside)) if reference else 1.0 for t in self.turns]
            kept = [[x * pace for x in t.alone + t.others] for t, pace in zip(self.turns, paces)]  # noqa: B905
        times = np.concatenate(kept)
        median, p95 = (1e3 * float(np.quantile(times, q)) for q in (0.5, 0.95))
        return Measurement(median, p95, _half_width(kept), len(times), left_out)


def _half_width(turns: Sequence[Sequence[float]]) -> float:
    """Half-width of the median's 95 % interval, from order statistics (binomial), as a share of the median.

    Calls of one turn are alike, so the turns count where there are several.
    """
    medians = [float(np.median(turn)) for turn in turns] if len(turns) > 1 else turns[0]
    ordered, n = np.sort(medians), len(medians)
    reach = 0.98 * sqrt(n)  # 1.96 x sqrt(n) / 2
    low, high = max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))
    return float((ordered[high] - ordered[low]) / 2 / np.median(ordered))


def time_in_turns(
    calls: Sequence[Callable[[], object]],
    reference: Callable[[], object] | None = None,
    protocol: Protocol | None = None,
    *,
    fastest_ms: float = inf,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Measurement], Measurement]:
    """What each call takes, and what the reference took beside the turns that count.

    reference: default the first call. fastest_ms: what it took before, where only the machine at its fastest counts.
    progress: called now and then with the share that is done, from 0 to 1.
    """
    protocol = protocol or Protocol()
    nets, beside = [Series(call) for call in calls], Series(reference or calls[0])
    for net in [*nets, beside]:
        net.warm_up(protocol)
    pace = Pace(protocol.disturbed, protocol.quiet, fastest_ms / 1e3)
    rng, waiting, share = np.random.default_rng(0), list(range(len(nets))), 0.0
    while waiting:
        order = [waiting[i] for i in rng.permutation(len(waiting))]
        for start in range(0, len(order), GROUP):
            _group([nets[i] for i in order[start : start + GROUP]], beside, pace)
        bounds = pace.bounds()
        for net in [*nets, beside]:
            net.bounds = bounds
        # Where the machine has changed its pace for long, nets that were done at the old one have turns once more.
        waiting = [i for i in range(len(nets)) if not nets[i].done(protocol)]
        share = max(share, 1 - len(waiting) / len(nets))
        if progress is not None:
            progress(share)
    taken = beside.summary()
    return [net.summary(taken.median_ms / 1e3) for net in nets], taken


def _group(nets: Sequence[Series], reference: Series, pace: Pace) -> None:
    """A turn of each net, the reference before and after."""
    before = _reading(reference)
    results = [net.turn() for net in nets]
    beside = (before, _reading(reference))
    pace.readings += beside
    for net, turn in zip(nets, results):  # noqa: B905 (Python 3.8 runs this too)
        net.turns.append(Turn(turn.alone, turn.others, beside))


def _reading(reference: Series) -> float:
    """Seconds of the reference, from a turn of its own."""
    turn = reference.turn()
    seconds = float(np.median(turn.alone or turn.others))
    reference.turns.append(Turn(turn.alone, turn.others, (seconds,)))
    return seconds


def _timed(call: Callable[[], object]) -> tuple[float, bool]:
    """Seconds of one call, and whether the process kept its core."""
    switches = _switches()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return seconds, _switches() == switches


def _switches() -> int:
    return 0 if getrusage is None else getrusage(RUSAGE_SELF).ru_nivcsw
