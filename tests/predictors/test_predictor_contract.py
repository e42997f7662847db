"""Every method of the registry keeps the contract; a new file in `methods/` is tested by being there."""

import warnings
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch

from nas.errors import UserError
from nas.hw_profiles import Cost, trace_cost
from nas.predictors import Features, Method, Predictor, Table, cost_columns, load_method, method_names
from nas.search_space.presets import load_preset
from nas.search_space.space import SearchSpace

FITTED, HELD_OUT = 70, 70


@dataclass(frozen=True)
class Lab:
    """Nets of a preset with their latency on a device that does not exist."""

    features: Features
    table: Table
    latency_ms: np.ndarray
    params: np.ndarray


def roofline_ms(cost: Cost) -> float:
    """2 GFLOP/s, 1 GB/s, 20 us a kernel."""
    return 1e3 * sum(op.count * (max(op.flops / 2e9, op.bytes / 1e9) + 2e-5) for op in cost.operators)


@cache
def lab() -> Lab:
    space = SearchSpace(load_preset("vit-digits").bind(input_shape=(1, 8, 8), classes=10))
    rng, example = np.random.default_rng(0), torch.zeros(1, 1, 8, 8)
    nets = [space.sample(rng) for _ in range(FITTED + HELD_OUT)]
    costs = {net: trace_cost(space.skeleton(net), example) for net in nets}
    noise = np.exp(rng.normal(0, 0.02, len(nets)))
    features = Features(space, lambda net: cost_columns(costs[net] if net in costs else costs[nets[0]]))
    latency = noise * [roofline_ms(costs[net]) for net in nets]
    return Lab(features, features.table(nets), latency, np.array([costs[net].params for net in nets], float))


@pytest.fixture(params=method_names())
def method(request: pytest.FixtureRequest) -> Method:
    return load_method(request.param)


def split() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(FITTED), np.arange(FITTED, FITTED + HELD_OUT)


def mape(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(predicted / true - 1).mean())


def by_parameters() -> float:
    """Error of a line through log(latency) over log(parameters)."""
    device, (fitted, out) = lab(), split()
    x, y = np.log(device.params), np.log(device.latency_ms)
    line = np.polyval(np.polyfit(x[fitted], y[fitted], 1), x[out])
    return mape(np.exp(line), device.latency_ms[out])


def test_registered_methods_are_methods(method: Method) -> None:
    assert isinstance(method, Method)
    assert method.name in method_names()
    assert method.scales <= {"log", "linear"}


def test_genes_alone_say_more_than_the_mean(method: Method) -> None:
    device, (fitted, out) = lab(), split()
    genes = replace(device.table, extra_names=(), extras=np.empty((len(device.table), 0)))
    model = Predictor(Features(device.features.space), method, "log").fit(genes.rows(fitted), device.latency_ms[fitted])
    mean = np.full(HELD_OUT, np.exp(np.log(device.latency_ms[fitted]).mean()))
    guess = mape(mean, device.latency_ms[out])
    assert mape(model.predict(genes.rows(out))[0], device.latency_ms[out]) < 0.6 * guess


def test_with_a_cost_they_beat_parameter_count(method: Method) -> None:
    device, (fitted, out) = lab(), split()
    model = Predictor(device.features, method, "log").fit(device.table.rows(fitted), device.latency_ms[fitted])
    mean, std = model.predict(device.table.rows(out))
    assert mape(mean, device.latency_ms[out]) < 0.5 * by_parameters()
    assert (std > 0).all()
    assert np.isfinite(std).all()


def test_fits_are_deterministic(method: Method) -> None:
    device, (fitted, out) = lab(), split()
    for scale in method.scales:
        few = fitted[:25]
        predictor = Predictor(device.features, method, scale)
        first, again = (predictor.fit(device.table.rows(few), device.latency_ms[few]) for _ in range(2))
        mean, std = first.predict_target(device.table.rows(out))
        same_mean, same_std = replace(again, std_factor=1.3).predict_target(device.table.rows(out))
        np.testing.assert_array_equal(same_mean, mean)
        np.testing.assert_array_equal(same_std, 1.3 * std)


def test_the_unit_does_not_matter(method: Method) -> None:
    """Seconds or milliseconds: the same prediction."""
    device, (fitted, out) = lab(), split()
    in_ms, in_s = (
        Predictor(device.features, method, "log")
        .fit(device.table.rows(fitted), unit * device.latency_ms[fitted])
        .predict(device.table.rows(out))[0]
        for unit in (1, 1e-3)
    )
    np.testing.assert_allclose(in_s, 1e-3 * in_ms, rtol=0.05)
    assert np.median(np.abs(1e3 * in_s / in_ms - 1)) < 0.01


def test_few_points_are_enough_to_say_something(method: Method) -> None:
    device, (_, out) = lab(), split()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Predictor(device.features, method, "log").fit(device.table.rows(np.arange(5)), device.latency_ms[:5])
        mean, std = model.predict(device.table.rows(out))
    assert mape(mean, device.latency_ms[out]) < 1
    assert (std > 0).all()


@pytest.mark.parametrize("name", [n for n in method_names() if load_method(n).knows_distance])
def test_uncertainty_grows_away_from_the_data(name: str) -> None:
    """Fitted to the smaller half of the nets: less sure of the largest tenth than of the nets that it knows."""
    device = lab()
    order = np.argsort(device.latency_ms)
    near, far = order[:70], order[-14:]
    model = Predictor(device.features, name, "log").fit(device.table.rows(near), device.latency_ms[near])
    known, unknown = (np.median(model.predict_target(device.table.rows(i))[1]) for i in (near, far))
    assert unknown > 1.1 * known


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        ([1.0, 2.0], "each architecture needs one value: 4 architectures"),
        ([1.0, 2.0, np.nan, 4.0], "values must be positive and finite; number 2 is nan"),
        ([1.0, 0.0, 3.0, 4.0], "values must be positive and finite; number 1 is 0.0"),
    ],
)
def test_wrong_values_are_named(method: Method, y: list[float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Predictor(lab().features, method, "log").fit(lab().table.rows(np.arange(4)), y)
