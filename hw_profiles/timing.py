"""How nets are timed: in turns, beside a reference net. Needs numpy alone: it also runs on targets without PyTorch.

A turn is one call that is not timed (it warms the caches) and then timed calls for a few milliseconds, as in a process
that runs one net. In every round each net has a turn, in an order drawn anew. Between the turns the reference net has
its own. Left out, and measured again, are calls during which another process took the core, and turns beside which the
reference was slow: a disturbance that lasts a moment hits some nets and not others. A slow drift hits all alike; it is
for the caller to divide it out, by the reference's medians. Rounds go on until each net's median is known well enough.

Why medians of undisturbed calls, measured on a shared machine with 2 virtual cores (28 nets of 0.02 to 2 ms, passes of
40 s, minutes apart, other work on 2 to 4 threads): the median of small nets moved by 1 to 2 % in common, which the
reference removes, and by 0.2 to 0.3 % apart from that; the quarter quantile by 0.2 to 0.4 %, the minimum by 1 to 3 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # Windows: no count of lost cores there, all calls are kept
    getrusage = None  # type: ignore[assignment]

GROUP = 8
"""Turns between two turns of the reference."""
FEWEST_KEPT = 5


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
    """A turn is measured again when the reference beside it was slower by this share than on the quiet machine."""
    slow: float = 0.06
    """Nets that were timed together are timed again when the reference was slower by this share than at its best."""


@dataclass(frozen=True)
class Measurement:
    """Median and 95th percentile of single calls; `noise`: half-width of the median's 95 % interval, as a share."""

    median_ms: float
    p95_ms: float
    noise: float
    repeats: int
    left_out: float = 0.0
    """Share of the calls that were disturbed, and do not count."""


@dataclass
class Series:
    """One net's calls so far. `turns` holds the seconds of undisturbed calls."""

    call: Callable[[], object]
    calls: int = 1
    turns: list[list[float]] = field(default_factory=list)
    others: list[list[float]] = field(default_factory=list)
    spent: float = 0.0

    def warm_up(self, protocol: Protocol) -> None:
        for _ in range(max(0, protocol.warmup - 1)):
            self.call()
        if protocol.warmup:
            once = _timed(self.call)[0]
            most = min(50, protocol.most_repeats, max(1, protocol.least_repeats))
            self.calls = int(min(max(protocol.turn_seconds / max(once, 1e-9), min(3, most)), most))

    def turn(self) -> tuple[list[float], list[float]]:
        """Seconds of the calls that were left alone, and of those that were not."""
        if self.calls > 1:
            self.spent += _timed(self.call)[0]
        kept: list[float] = []
        lost: list[float] = []
        for _ in range(self.calls):
            seconds, alone = _timed(self.call)
            (kept if alone else lost).append(seconds)
        self.spent += sum(kept) + sum(lost)
        return kept, lost

    def add(self, kept: list[float], lost: list[float], undisturbed: bool = True) -> None:
        good, bad = (kept, lost) if undisturbed else ([], kept + lost)
        self.turns += [good] if good else []
        self.others += [bad] if bad else []

    def done(self, protocol: Protocol) -> bool:
        n = sum(map(len, self.turns))
        if n + sum(map(len, self.others)) >= protocol.most_repeats or self.spent >= protocol.seconds:
            return True
        enough = n >= protocol.least_repeats and len(self.turns) >= protocol.least_turns
        return enough and self.noise() <= protocol.precision

    def noise(self) -> float:
        """Half-width of the median's 95 % interval, from order statistics (binomial), as a share of the median.

        Calls of one turn are alike, so the turns count where there are several.
        """
        turns = self.turns or self.others
        medians = [float(np.median(turn)) for turn in turns] if len(turns) > 1 else turns[0]
        ordered, n = np.sort(medians), len(medians)
        reach = 0.98 * sqrt(n)  # 1.96 x sqrt(n) / 2
        low, high = max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))
        return float((ordered[high] - ordered[low]) / 2 / np.median(ordered))

    def summary(self) -> Measurement:
        """Of undisturbed calls; of all where hardly any was."""
        kept, lost = (np.concatenate([*turns, []]) for turns in (self.turns, self.others))
        times = kept if len(kept) >= FEWEST_KEPT or not len(lost) else np.concatenate([kept, lost])
        median, p95 = (1e3 * float(np.quantile(times, q)) for q in (0.5, 0.95))
        return Measurement(median, p95, self.noise(), len(times), len(lost) / (len(kept) + len(lost)))


@dataclass
class Reference:
    """The net between the turns, and what it takes while nothing disturbs the machine."""

    series: Series
    disturbed: float
    expected_ms: float | None = None
    medians: list[float] = field(default_factory=list)

    def quiet(self) -> bool:
        """One turn; whether it was about as fast as the faster ones."""
        kept, lost = self.series.turn()
        self.medians.append(float(np.median(kept or lost)))
        self.series.add(kept, lost)
        return bool(kept) and self.medians[-1] <= self.bound()

    def bound(self) -> float:
        """Seconds. The lower quarter stands for the quiet machine: slow phases may fill half of the time."""
        own = float(np.quantile(self.medians, 0.25))
        quiet = own if self.expected_ms is None else min(own, self.expected_ms / 1e3)
        return (1 + self.disturbed) * quiet

    def summary(self) -> Measurement:
        """Of the turns of the quiet machine; of all where it never was quiet."""
        bound, whole = self.bound(), Series(self.series.call)
        for turn in self.series.turns:
            whole.add(turn, [], float(np.median(turn)) <= bound)
        whole.others += self.series.others
        return whole.summary()


def time_in_turns(
    calls: Sequence[Callable[[], object]],
    reference: Callable[[], object] | None = None,
    protocol: Protocol | None = None,
    *,
    expected_ms: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Measurement], Measurement | None]:
    """What each call takes, and what the reference took beside the turns that count.

    expected_ms: what the reference took before, on a quiet machine: a slow phase that outlasts this call is seen too.
    progress: called now and then with the share that is done, from 0 to 1.
    """
    protocol = protocol or Protocol()
    nets = [Series(call) for call in calls]
    beside = None if reference is None else Reference(Series(reference), protocol.disturbed, expected_ms)
    for net in [*nets, *([beside.series] if beside else [])]:
        net.warm_up(protocol)
    rng, waiting = np.random.default_rng(0), list(range(len(nets)))
    while waiting:
        order = [waiting[i] for i in rng.permutation(len(waiting))]
        for start in range(0, len(order), GROUP):
            _group([nets[i] for i in order[start : start + GROUP]], beside)
        waiting = [i for i in waiting if not nets[i].done(protocol)]
        if progress is not None:
            progress(1 - len(waiting) / len(nets))
    return [net.summary() for net in nets], beside.summary() if beside else None


def _group(nets: Sequence[Series], reference: Reference | None) -> None:
    """A turn of each net, the reference before and after."""
    before = reference.quiet() if reference else True
    found = [net.turn() for net in nets]
    after = reference.quiet() if reference else True
    for net, (kept, lost) in zip(nets, found):  # noqa: B905 (Python 3.8 runs this too)
        net.add(kept, lost, before and after)


def _timed(call: Callable[[], object]) -> tuple[float, bool]:
    """Seconds of one call, and whether the process kept its core."""
    switches = _switches()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return seconds, _switches() == switches


def _switches() -> int:
    return 0 if getrusage is None else getrusage(RUSAGE_SELF).ru_nivcsw
