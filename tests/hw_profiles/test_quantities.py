"""Energy and peak memory: known answers, measured points that are fitted, and what is refused."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.hw_profiles.catalog import read_device
from nas.hw_profiles.measuring.memory import peak_memory_mib
from nas.hw_profiles.measuring.profiled import write_device
from nas.hw_profiles.models.latency import LatencyModel, predict
from nas.hw_profiles.models.priors import ANY_DEVICE
from nas.hw_profiles.models.quantity import LOAD
from nas.hw_profiles.models.tail import fit_tail, p95_of
from nas.hw_profiles.points import Calibration, Point
from nas.search.candidates import Candidates
from nas.search.costs import COSTS
from nas.search.limits import AppliedLimit
from nas.values import LATENCY, MEMORY


def net(width, depth=4):
    return nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])


def cost(width, depth=4):
    return nas.trace_cost(net(width, depth), torch.zeros(1, width))


@pytest.fixture
def bare():
    """A device of which nothing is measured."""
    return nas.load_device("jetson-orin").model_copy(
        update={"calibration": None, "validity": None, "model": None, "precision": "fp32"}
    )


def with_points(device, **columns):
    points = [
        Point.of(
            cost(32 * (i + 1)),
            model=f"net-{i}",
            input="x",
            source="a test",
            trust="measured",
            latency_ms=1.0 + i,
            activation_mib=cost(32 * (i + 1)).peak_activation_bytes / 2**20,
            **{name: values[i] for name, values in columns.items()},
        )
        for i in range(8)
    ]
    return device.model_copy(update={"calibration": Calibration(points=points)}).fitted()


def test_energy_without_measurements_is_latency_times_power(bare):
    time, found = bare.latency(cost(512)), bare.energy(cost(512))
    watts = bare.spec.power_w.value
    assert found.value == pytest.approx(LOAD * watts * time.value)
    assert found.high == pytest.approx(watts * time.high)
    assert (found.source, found.tier) == ("analytic", "D")
    assert found.low < found.value < found.high


def test_energy_of_a_device_of_unknown_power_is_refused(bare):
    unknown = bare.model_copy(update={"spec": bare.spec.model_copy(update={"power_w": None})})
    with pytest.raises(nas.UserError, match="power_w"):
        unknown.energy(cost(64))


def test_measured_energies_are_fitted(bare):
    energies = [5.0 + 3e-5 * cost(32 * (i + 1)).flops for i in range(8)]
    device = with_points(bare, energy_mj=energies)
    found = [device.energy(cost(32 * (i + 1))) for i in range(8)]
    assert np.allclose([x.value for x in found], energies, rtol=0.1)
    assert {x.source for x in found} == {"calibrated"}
    assert all(x.low <= e <= x.high for x, e in zip(found, energies, strict=True))


def test_measured_peaks_are_fitted_and_survive_the_file(bare, tmp_path):
    peaks = [6.0 + 3 * cost(32 * (i + 1)).params * 4 / 2**20 for i in range(8)]
    device = with_points(bare, memory_mib=peaks)
    assert np.allclose([device.memory(cost(32 * (i + 1))).value for i in range(8)], peaks, rtol=0.05)
    path = write_device(device, tmp_path / "board.yaml")
    again = nas.load_device(path)
    assert again.memory(cost(100)) == device.memory(cost(100))
    fresh = read_device(path).model_copy(update={"memory_model": None}).fitted()  # from the points of the file
    assert fresh.memory(cost(100)).value == pytest.approx(device.memory(cost(100)).value, rel=1e-3)


def test_a_tail_is_a_ratio_to_the_latency(bare):
    device = with_points(bare, p95_ms=[1.3 * (1 + i) for i in range(8)])
    for i in range(8):
        time, found = device.latency(cost(32 * (i + 1))), device.p95(cost(32 * (i + 1)))
        assert found.value == pytest.approx(1.3 * time.value, rel=1e-3)
        assert (found.source, found.tier) == (time.source, time.tier)
    twice = nas.Estimate(LATENCY, 2.0, 1.8, 2.2, "measured", "B")
    assert device.p95(cost(64), time=twice).value == pytest.approx(2.6, rel=1e-3)


def test_a_tail_that_grows_with_the_latency_is_seen_and_none_is_below_the_latency():
    costs = [cost(32 * (i + 1)) for i in range(16)]
    times = [0.05 + c.flops / 1e6 for c in costs]
    model = LatencyModel.fit(costs, times, form="rates")
    grown = fit_tail(costs, [(ms, 1.5 * ms**1.1) for ms in times], model, ANY_DEVICE)
    assert [grown.ratio(ms) for ms in (0.2, 0.5, 1.0)] == pytest.approx([1.28, 1.40, 1.5], abs=0.02)
    assert grown.ratio(100.0) == grown.ratio(max(times) * 1.1), "beyond the nets it stays as it is at their end"
    assert fit_tail(costs, [(ms, 0.5 * ms) for ms in times], model, ANY_DEVICE).ratio(1.0) == 1


def test_the_interval_of_a_percentile_holds_for_nets_that_were_left_out():
    """Of devices with 40 nets, whose percentile is 1.2 to 1.6 times the latency by chance."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(5):
        costs = [cost(int(w)) for w in rng.integers(16, 512, 60)]
        times = [0.05 + c.flops / 1e6 for c in costs]
        tails = [ms * t for ms, t in zip(times, np.exp(rng.normal(0.3, 0.1, 60)), strict=True)]
        model = LatencyModel.fit(costs[:40], times[:40], form="rates")
        tail = fit_tail(costs[:40], list(zip(times, tails, strict=True))[:40], model, ANY_DEVICE)
        for net, p95 in zip(costs[40:], tails[40:], strict=True):
            found = p95_of(tail, predict(model, net), model)
            inside.append(found.low <= p95 <= found.high)
    assert 0.83 <= np.mean(inside) <= 0.98


def test_a_tail_survives_the_file_and_too_few_points_tell_none(bare, tmp_path):
    device = with_points(bare, p95_ms=[1.3 * (1 + i) for i in range(8)])
    again = nas.load_device(write_device(device, tmp_path / "board.yaml"))
    assert again.p95(cost(100)) == device.p95(cost(100))
    few = with_points(bare, p95_ms=[1.5, 3.0, *[None] * 6])
    with pytest.raises(nas.UserError, match=r"state `p95_ms` of 3 of its points or more, or measure it with `nas prof"):
        few.p95(cost(100))


def test_memory_without_measurements_is_counted_with_a_wide_interval(bare):
    small, large = bare.memory(cost(64)), bare.memory(cost(2048))
    weights = cost(2048).params * 4 / 2**20
    assert large.low < weights < large.high
    assert small.value < large.value
    assert large.high / large.value == pytest.approx(3)
    assert (large.source, large.tier) == ("analytic", "D")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_peak_memory_grows_by_the_weights():
    small, large = (peak_memory_mib(net(width), (torch.zeros(1, width),)) for width in (64, 1024))
    weights = 4 * (1024**2 - 64**2) * 4 / 2**20
    assert weights < large - small < 4 * weights


def test_a_search_bounds_what_the_profile_measured(bare):
    class OneNet:
        def skeleton(self, _):
            return net(96)

    candidates = Candidates(
        SimpleNamespace(space=OneNet()), SimpleNamespace(example_of=lambda rows: torch.zeros(rows, 96)), bare
    )
    peak = AppliedLimit(nas.Limit(MEMORY, 1.0), candidates)
    assert COSTS["memory_mib"].estimate(candidates, "a").high == pytest.approx(
        candidates.cost("a").memory_bytes / 2**20
    )
    candidates.device = with_points(bare, memory_mib=[6.0 + i for i in range(8)])
    assert peak.bounded("a") == candidates.device.memory(candidates.cost("a")).high > 6
