"""Predictors over genes take the place of the latency model where they know better, and only there."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import nas
from nas.hw_profiles import Cost, LatencyModel
from nas.hw_profiles.points import Calibration, Point
from nas.predictors import latency
from nas.predictors.latency import LATENCY_MODEL, Timed

SPACE = nas.SearchSpace(nas.load_preset("vit-digits").bind(input_shape=(1, 8, 8), classes=10))
DEVICE = nas.load_device("core-i7-12700h")


def cost(net: nas.Architecture) -> Cost:
    return nas.trace_cost(SPACE.skeleton(net), torch.zeros(1, 1, 8, 8), DEVICE.precision)


def by_operators(net: nas.Architecture) -> float:
    return DEVICE.latency(cost(net)).value


def by_place(net: nas.Architecture) -> float:
    """Layers that cost the same take longer the later they stand: nothing that a cost can tell."""
    return 0.01 * sum(3**i for i in range(4) if net.get(f"layers.{i}.keep", True))


def timed(n: int, milliseconds: Callable[[nas.Architecture], float]) -> Timed:
    rng = np.random.default_rng(0)
    facts = {"family": "space", "input": "1x8x8", "source": "a test", "trust": "measured"}
    points = [
        Point.of(cost(a), model=a.id, architecture=dict(a), latency_ms=milliseconds(a), **facts)
        for a in dict.fromkeys(SPACE.sample(rng) for _ in range(n))
    ]
    foreign = points[0].model_copy(update={"model": "of another space", "architecture": {"width": 7}})
    calibration = Calibration(points=[*points, foreign])
    return Timed.of(DEVICE.model_copy(update={"calibration": calibration}), SPACE, cost)


@pytest.fixture(autouse=True)
def quick_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "method_names", lambda: ["ridge", "products"])


@pytest.mark.slow
def test_all_are_compared_at_nets_left_out() -> None:
    found = timed(52, by_operators)
    assert len(found.nets) == 52
    table = found.compare()
    assert table is not None
    assert set(table.index) == {LATENCY_MODEL, "ridge", "products", "parameters", "FLOPs"}
    assert table["mape"].is_monotonic_increasing
    assert table["mape"][LATENCY_MODEL] < 0.05
    assert found.winner(table) is None


@pytest.mark.slow
def test_genes_win_where_they_know_more() -> None:
    found = timed(40, by_place)
    learned = found.winner(found.compare())
    assert learned is not None
    model = LatencyModel.fit([DEVICE.as_run(cost(a)) for a in found.nets], found.latencies_ms, DEVICE)
    rng, errors = np.random.default_rng(1), []
    for net in (SPACE.sample(rng) for _ in range(15)):
        known = DEVICE.latency(cost(net))
        said, twice = learned.latency(net, known), learned.latency(net, known, pace=2.0)
        assert said.low < said.value < said.high
        assert (said.source, said.tier) == (known.source, known.tier)
        assert twice.value == pytest.approx(2 * said.value)
        plain = model.predict([DEVICE.as_run(cost(net))])["mean_ms"][0]
        errors.append([abs(x / by_place(net) - 1) for x in (said.value, plain)])
    assert np.mean(errors, axis=0)[0] < 0.5 * np.mean(errors, axis=0)[1]


def test_few_nets_leave_it_to_the_latency_model() -> None:
    found = timed(10, by_place)
    assert found.compare() is None
    assert found.winner(None) is None
