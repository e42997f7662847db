"""A fit that starts from a profiled device, the rank of nets left out, and the refusal that rests on it."""

from dataclasses import dataclass

import numpy as np
import pytest

import nas
from nas.hw_profiles.cost import Cost, OperatorCost
from nas.hw_profiles.models.priors import Prior, Rates
from nas.hw_profiles.models.rank import LEAST, rank_of
from nas.hw_profiles.nearest import nearest
from nas.hw_profiles.points import Calibration, Point

SHEET, LARGER_SHEET = Prior(Rates(5e12, 1e11, 8.0)), Prior(Rates(1e13, 2e11, 8.0))
NAMES = [f"kernel-{i}" for i in range(12)]


@dataclass(frozen=True)
class Device:
    """A device as far as a fit wants to know it."""

    sheet: Prior
    model: nas.LatencyModel | None = None
    name: str = "older"
    precision: str = "fp32"

    def prior(self):
        return self.sheet


def nets(n, seed):
    rng = np.random.default_rng(seed)
    return [
        Cost.from_operators(
            [OperatorCost(str(name), "matmul", 1e8, 1e6, 0, 4) for name in rng.choice(NAMES, 6, replace=False)]
        )
        for _ in range(n)
    ]


def quirks(seed):
    """How many times as long each kernel takes as its FLOPs and bytes say."""
    return dict(zip(NAMES, np.exp(0.6 * np.random.default_rng(seed).standard_normal(len(NAMES))), strict=True))


def latencies(costs, quirk, pace=1.0):
    return [1e3 * pace * sum(4 * quirk[op.name] * (1e8 / 4e12 + 8e-6) for op in cost.operators) for cost in costs]


def error(model, costs, truth):
    return float(np.mean(np.abs(model.predict(costs).mean_ms.to_numpy() / truth - 1)))


def profiled(quirk):
    costs = nets(60, 0)
    return Device(SHEET, nas.LatencyModel.fit(costs, latencies(costs, quirk), Device(SHEET)))


def test_a_start_carries_over_what_was_learnt_of_operators():
    quirk = quirks(1)
    known, held = nets(8, 5), nets(60, 6)
    times, truth = latencies(known, quirk, 0.4), latencies(held, quirk, 0.4)
    own = nas.LatencyModel.fit(known, times, Device(LARGER_SHEET))
    near = nas.LatencyModel.fit(known, times, Device(LARGER_SHEET), like=profiled(quirk))
    assert own.start is None
    assert near.start is not None
    assert near.start.name == "older"
    assert error(near, held, truth) < 0.5 * error(own, held, truth)
    found = near.predict(held)
    assert np.mean((found.low_ms <= truth) & (truth <= found.high_ms)) >= 0.8


def test_a_start_from_a_device_that_is_not_alike_is_left():
    known, times = nets(8, 5), latencies(nets(8, 5), quirks(1))
    near = nas.LatencyModel.fit(known, times, Device(LARGER_SHEET), like=profiled(quirks(2)))
    assert near == nas.LatencyModel.fit(known, times, Device(LARGER_SHEET))


def test_a_datasheet_alone_is_no_start():
    known, times = nets(8, 5), latencies(nets(8, 5), quirks(1))
    sheet = Device(SHEET, nas.LatencyModel.fit([], [], Device(SHEET)))
    assert nas.LatencyModel.fit(known, times, Device(SHEET), like=sheet).start is None


def test_the_nearest_device_has_the_same_runtime_and_a_like_datasheet():
    phone, other = nas.load_device("galaxy-s24"), nas.load_device("galaxy-s24-tflite")
    found = nearest(phone.model_copy(update={"name": "mine"}))
    assert found is not None
    assert (found.runtime.name, found.kind) == (phone.runtime.name, phone.kind)
    assert nearest(phone, [other]) is None
    assert nearest(phone, [phone]) is None
    assert nearest(phone, [nas.load_device("h100")]) is None


def test_rank_is_kendalls_tau_over_pairs_that_are_apart():
    truth = np.log([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank_of(truth, truth, 0.01) == 1
    assert rank_of(truth, -truth, 0.01) == -1
    swapped = truth[[1, 0, 2, 3, 4]]
    assert rank_of(truth, swapped, 0.01) == pytest.approx(0.8)
    assert rank_of(truth, swapped, 0.5) == 1  # a factor of two is not told apart
    assert rank_of(truth[:4], truth[:4], 0.01) is None
    assert rank_of(np.log(1 + 0.001 * np.arange(9)), np.zeros(9), 0.0) is None


def test_rank_of_thousands_of_nets_is_that_of_some_of_them():
    truth = np.random.default_rng(0).standard_normal(20_000)
    assert rank_of(truth, truth, 0.0) == 1
    noisy = truth + np.random.default_rng(1).standard_normal(20_000)  # correlation r: tau is 2 / pi arcsin(r)
    assert rank_of(truth, noisy, 1e-9) == pytest.approx(0.5, abs=0.05)


def board(times):
    costs = nets(len(times), 3)
    points = [
        Point.of(cost, model=f"net-{i}", input="x", source="a test", trust="measured", latency_ms=ms)
        for i, (cost, ms) in enumerate(zip(costs, times, strict=True))
    ]
    base = nas.load_device("raspberry-pi-5").model_copy(update={"model": None, "validity": None, "precision": "fp32"})
    return base.model_copy(update={"name": "board", "calibration": Calibration(points=points)}).fitted()


def test_a_profile_that_orders_no_nets_predicts_nothing():
    times = np.exp(np.random.default_rng(0).standard_normal(11)).tolist()  # nothing to do with the nets
    with pytest.raises(nas.UserError, match=rf"Kendall tau of -?0\.\d\d, and below {LEAST}.*nas profile"):
        board(times).latency(nets(1, 4)[0])


@pytest.mark.slow
def test_energies_and_peaks_that_order_no_nets_are_refused_too():
    noise = board(np.exp(np.random.default_rng(0).standard_normal(20)).tolist()).model
    good = board(latencies(nets(20, 3), quirks(1)))
    with pytest.raises(nas.UserError, match="energies of board are not predicted"):
        good.model_copy(update={"energy_model": noise}).energy(nets(1, 4)[0])
    with pytest.raises(nas.UserError, match="memory peaks of board are not predicted"):
        good.model_copy(update={"memory_model": noise}).memory(nets(1, 4)[0])


def test_a_profile_that_orders_them_does():
    assert board(latencies(nets(20, 3), quirks(1))).latency(nets(1, 4)[0]).value > 0


def test_every_profile_of_the_package_orders_its_nets():
    ranks = {name: nas.load_device(name).model.rank for name in nas.device_names()}
    assert not [name for name, rank in ranks.items() if rank is not None and rank < LEAST]
    assert sum(rank is not None for rank in ranks.values()) >= 12
