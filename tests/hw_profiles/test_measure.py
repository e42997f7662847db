"""The protocol: nets in turns, what is disturbed does not count, and a drift is seen by the reference."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.hw_profiles.measuring import timing
from nas.hw_profiles.measuring.measure import Measurement, Protocol, measure, measure_all, measure_beside
from nas.hw_profiles.measuring.timing import time_in_turns


class Clock:
    """A machine whose time passes only when a net runs; `speed` and `busy` are its moods."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.speed, self.switches = 0.0, 1.0, 0
        self.calls: list[str] = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing, "_switches", lambda: self.switches)

    def net(self, name: str, ms: float, rng: np.random.Generator | None = None) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += 1e-3 * ms * self.speed * (1 + (0.02 * rng.standard_normal() if rng else 0))
            self.mood()

        return call

    def mood(self) -> None:
        """Nothing happens."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_medians_are_found_and_known_well(clock: Clock) -> None:
    rng = np.random.default_rng(0)
    truth = [0.05, 1.0, 20.0]
    protocol = Protocol(precision=0.01, seconds=60)
    found, beside = time_in_turns([clock.net(str(ms), ms, rng) for ms in truth], clock.net("r", 1.0, rng), protocol)
    assert [m.median_ms for m in found] == pytest.approx(truth, rel=0.01)
    assert all(m.noise <= 0.01 and m.left_out == 0 and m.median_ms < m.p95_ms for m in found)
    assert beside.median_ms == pytest.approx(1.0, rel=0.01)


def test_turns_are_interleaved_with_the_reference(clock: Clock) -> None:
    time_in_turns([clock.net(n, 10.0) for n in "abc"], clock.net("r", 10.0), Protocol(warmup=1, least_repeats=9))
    timed = "".join(clock.calls[4:])
    turn = 4  # one call that is not timed and three that are
    assert set(map(len, timed.split("r" * turn))) <= {0, 3 * turn}
    rounds = [part for part in timed.split("r" * turn) if part]
    assert all(sorted(part) == sorted("abc" * turn) for part in rounds)
    assert len(set(rounds)) > 1  # the order is drawn anew


def test_a_call_that_lost_its_core_does_not_count(clock: Clock) -> None:
    rng = np.random.default_rng(1)

    def preempted() -> None:
        if rng.random() < 0.6:
            clock.now += 5e-3
            clock.switches += 1

    clock.mood = preempted  # type: ignore[method-assign]
    (found,), _ = time_in_turns([clock.net("a", 1.0)], None, Protocol(seconds=5))
    assert found.median_ms == pytest.approx(1.0)
    assert 0.4 < found.left_out < 0.8


@pytest.mark.parametrize("other_speed", [1.5, 0.6])
def test_what_counts_is_the_machine_as_it_mostly_is(clock: Clock, other_speed: float) -> None:
    phases = [*range(50, 120), *range(400, 700)]

    def mood() -> None:
        clock.speed = other_speed if len(clock.calls) in phases else 1.0

    clock.mood = mood  # type: ignore[method-assign]
    nets = [clock.net(n, 4.0) for n in "abcd"]
    found, beside = time_in_turns(nets, clock.net("r", 4.0), Protocol(least_repeats=150, seconds=60))
    assert [m.median_ms for m in [*found, beside]] == pytest.approx([4.0] * 5)
    assert all(m.left_out > 0 and m.p95_ms == pytest.approx(4.0) for m in found)


def test_a_net_that_was_done_before_the_machine_changed_is_compared_at_the_same_pace(clock: Clock) -> None:
    def mood() -> None:
        clock.speed = 1.8 if len(clock.calls) > 400 else 1.0

    clock.mood = mood  # type: ignore[method-assign]
    rng = np.random.default_rng(3)
    nets = [clock.net("steady", 4.0), *(clock.net(f"noisy {i}", 4.0, rng) for i in range(4))]
    protocol = Protocol(precision=0.004, seconds=60)
    found, beside = time_in_turns(nets, clock.net("r", 4.0), protocol)
    assert [m.median_ms / beside.median_ms for m in found] == pytest.approx([1.0] * 5, rel=0.02)


def test_a_net_without_a_turn_at_the_pace_that_counts_is_brought_to_it() -> None:
    turns = [timing.Turn([0.008] * 4, [], (0.002, 0.004)), timing.Turn([0.004] * 4, [], (0.0015, 0.0015))]
    series = timing.Series(lambda: None, turns=turns, bounds=(0.0009, 0.0011))
    assert series.summary(0.001).median_ms == pytest.approx(8 / 3)
    assert series.summary(0.001).left_out == 1


def test_a_quiet_machine_is_waited_for(clock: Clock) -> None:
    def mood() -> None:
        clock.speed = 1.0 if len(clock.calls) % 1000 < 250 else 1.5

    clock.mood = mood  # type: ignore[method-assign]
    nets, mostly = [clock.net(n, 4.0) for n in "abcd"], Protocol(least_repeats=400, seconds=60)
    assert time_in_turns(nets, clock.net("r", 4.0), mostly)[0][0].median_ms == pytest.approx(6.0)
    found, beside = time_in_turns(nets, clock.net("r", 4.0), replace(mostly, quiet=True))
    assert [m.median_ms for m in [*found, beside]] == pytest.approx([4.0] * 5)


def test_a_slow_phase_that_outlasts_the_call_is_seen_by_what_the_reference_took_before(clock: Clock) -> None:
    clock.speed = 1.5
    (found,), beside = time_in_turns([clock.net("a", 4.0)], clock.net("r", 4.0), Protocol(quiet=True), fastest_ms=4.0)
    assert (found.left_out, found.median_ms, beside.median_ms) == (1.0, pytest.approx(6.0), pytest.approx(6.0))


@given(st.lists(st.floats(0.9, 1.1), min_size=5, max_size=30), st.floats(1.5, 9))
def test_the_typical_value_is_of_the_larger_heap(heap: list[float], factor: float) -> None:
    few = [factor * x for x in heap[: len(heap) // 3]]
    assert min(heap) <= timing.typical([*heap, *few]) <= max(heap)
    assert (
        min(heap) * factor <= timing.typical([factor * x for x in heap] + heap[: len(heap) // 3]) <= max(heap) * factor
    )


def test_where_every_call_is_disturbed_all_count(clock: Clock) -> None:
    def always() -> None:
        clock.switches += 1

    clock.mood = always  # type: ignore[method-assign]
    (found,), _ = time_in_turns([clock.net("a", 1.0)], None, Protocol(seconds=0.1))
    assert (found.median_ms, found.left_out) == (pytest.approx(1.0), 1.0)


def test_the_time_limit_holds_where_precision_is_out_of_reach(clock: Clock) -> None:
    rng = np.random.default_rng(2)
    protocol = Protocol(seconds=0.5, precision=0.0, most_repeats=10**9)
    time_in_turns([clock.net("a", 1.0, rng), clock.net("b", 2.0, rng)], clock.net("r", 1e-6), protocol)
    assert clock.now == pytest.approx(1.0, abs=0.1)


def test_progress_ends_at_one(clock: Clock) -> None:
    seen: list[float] = []
    time_in_turns([clock.net("a", 1.0), clock.net("b", 9.0)], None, Protocol(), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        assert not self.training
        self.calls += 1
        return x + 1


def test_modules_run_for_inference_and_get_their_mode_back() -> None:
    module, protocol = Watched(), Protocol(least_repeats=6, most_repeats=12, least_turns=1)
    (found,) = measure_all([(module, torch.zeros(2))], protocol=protocol)
    assert module.training
    assert 6 <= found.repeats <= module.calls


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_larger_net_takes_longer(runtime: str) -> None:
    small, large = nn.Linear(16, 16), nn.Sequential(*(nn.Linear(256, 256) for _ in range(30)))
    pairs = [(small, torch.zeros(1, 16)), (large, torch.zeros(1, 256))]
    found, beside = measure_beside(pairs, pairs[0], protocol=Protocol(seconds=0.05), runtime=runtime, threads=1)
    assert found[0].median_ms < found[1].median_ms
    assert beside.median_ms < found[1].median_ms


def test_measuring_ends_at_its_time_limit() -> None:
    begun = time.perf_counter()
    protocol = Protocol(seconds=0.02, precision=0.0, most_repeats=10**9)
    result = measure(nn.Linear(8, 8), torch.zeros(1, 8), protocol=protocol)
    assert isinstance(result, Measurement)
    assert result.repeats >= 1
    assert time.perf_counter() - begun < 30
