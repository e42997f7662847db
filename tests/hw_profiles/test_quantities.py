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
from nas.hw_profiles.models.quantity import LOAD
from nas.hw_profiles.points import Calibration, Point
from nas.search.candidates import Candidates
from nas.search.costs import PRICES


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
    assert found.mean_mj == pytest.approx(LOAD * watts * time.mean_ms)
    assert found.high_mj == pytest.approx(watts * time.high_ms)
    assert (found.source, found.tier) == ("analytic", "D")
    assert found.low_mj < found.mean_mj < found.high_mj


def test_energy_of_a_device_of_unknown_power_is_refused(bare):
    unknown = bare.model_copy(update={"spec": bare.spec.model_copy(update={"power_w": None})})
    with pytest.raises(nas.UserError, match="power_w"):
        unknown.energy(cost(64))


def test_measured_energies_are_fitted(bare):
    energies = [5.0 + 3e-5 * cost(32 * (i + 1)).flops for i in range(8)]
    device = with_points(bare, energy_mj=energies)
    found = [device.energy(cost(32 * (i + 1))) for i in range(8)]
    assert np.allclose([x.mean_mj for x in found], energies, rtol=0.1)
    assert {x.source for x in found} == {"calibrated"}
    assert all(x.low_mj <= e <= x.high_mj for x, e in zip(found, energies, strict=True))


def test_measured_peaks_are_fitted_and_survive_the_file(bare, tmp_path):
    peaks = [6.0 + 3 * cost(32 * (i + 1)).params * 4 / 2**20 for i in range(8)]
    device = with_points(bare, memory_mib=peaks)
    assert np.allclose([device.memory(cost(32 * (i + 1))).mean_mib for i in range(8)], peaks, rtol=0.05)
    path = write_device(device, tmp_path / "board.yaml")
    again = nas.load_device(path)
    assert again.memory(cost(100)) == device.memory(cost(100))
    fresh = read_device(path).model_copy(update={"memory_model": None}).fitted()  # from the points of the file
    assert fresh.memory(cost(100)).mean_mib == pytest.approx(device.memory(cost(100)).mean_mib, rel=1e-3)


def test_memory_without_measurements_is_counted_with_a_wide_interval(bare):
    small, large = bare.memory(cost(64)), bare.memory(cost(2048))
    weights = cost(2048).params * 4 / 2**20
    assert large.low_mib < weights < large.high_mib
    assert small.mean_mib < large.mean_mib
    assert large.high_mib / large.mean_mib == pytest.approx(3)
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

    candidates = Candidates(SimpleNamespace(space=OneNet()), SimpleNamespace(input_shape=(96,)), bare)
    peak = PRICES["memory_mib"]
    assert peak.of(candidates, "a").high == pytest.approx(candidates.cost("a").memory_bytes / 2**20)
    candidates.device = with_points(bare, memory_mib=[6.0 + i for i in range(8)])
    assert peak.bounded(candidates)("a") == candidates.device.memory(candidates.cost("a")).high_mib > 6
