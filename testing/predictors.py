"""The contract of a method of regression: better than trivial ones, deterministic, honest about its uncertainty."""

import warnings
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import cast

import numpy as np
import torch

from ..errors import UserError
from ..hw_profiles import Cost, trace_cost
from ..predictors import Features, FittedPredictor, Method, Predictor, Table, cost_columns, load_method
from ..predictors.table import Array
from ..search_space.presets import load_preset
from ..search_space.space import SearchSpace
from .suite import Checks, Suite, run_all

SUITE: Suite[Method] = Suite()
FITTED, HELD_OUT = np.arange(70), np.arange(70, 140)


def check_predictor(method: str | Method) -> None:
    """Hold a method of regression, or the registered one of that name, to its contract, until a check fails.

    Errors: AssertionError, with the name of the check and what it saw.

    >>> nas.testing.check_predictor("ridge")
    """
    run_all(predictor_checks(method))


def predictor_checks(method: str | Method) -> Checks:
    """The checks of a method by name; each is a function without arguments that raises AssertionError.

    They fit it to the latencies in milliseconds of up to 70 nets of the preset `vit-digits` on a device that does not
    exist, and predict 70 others.

    >>> @pytest.mark.parametrize("check", nas.testing.predictor_checks("ridge").values())
    ... def test_ridge(check):
    ...     check()
    """
    return SUITE.of(load_method(method))


@dataclass(frozen=True)
class Lab:
    """Nets of a preset with their latency on a device that does not exist."""

    features: Features
    table: Table
    latency_ms: Array
    params: Array


def roofline_ms(cost: Cost) -> float:
    """2 GFLOP/s, 1 GB/s, 20 us a kernel."""
    return 1e3 * sum(op.count * (max(op.flops / 2e9, op.bytes / 1e9) + 2e-5) for op in cost.operators)


@cache
def lab() -> Lab:
    space = SearchSpace(load_preset("vit-digits").bind(input_shape=(1, 8, 8), classes=10))
    rng, example = np.random.default_rng(0), torch.zeros(1, 1, 8, 8)
    nets = [space.sample(rng) for _ in (*FITTED, *HELD_OUT)]
    costs = {net: trace_cost(space.skeleton(net), example) for net in nets}
    noise = np.exp(rng.normal(0, 0.02, len(nets)))
    features = Features(space, lambda net: cost_columns(costs[net] if net in costs else costs[nets[0]]))
    latency = noise * [roofline_ms(costs[net]) for net in nets]
    return Lab(features, features.table(nets), latency, np.array([costs[net].params for net in nets], float))


@lru_cache(maxsize=2)
def fitted(method: Hashable, unit: float) -> FittedPredictor:
    """To genes and costs; unit: a factor on the milliseconds."""
    predictor = Predictor(lab().features, cast(Method, method), "log")
    return predictor.fit(lab().table.rows(FITTED), unit * lab().latency_ms[FITTED])


def mape(predicted: Array, true: Array) -> float:
    return float(np.abs(predicted / true - 1).mean())


def by_parameters() -> float:
    """Error of a line through log(latency) over log(parameters)."""
    x, y = np.log(lab().params), np.log(lab().latency_ms)
    line = np.polyval(np.polyfit(x[FITTED], y[FITTED], 1), x[HELD_OUT])
    return mape(np.exp(line), lab().latency_ms[HELD_OUT])


def by_mean() -> float:
    mean = np.exp(np.log(lab().latency_ms[FITTED]).mean())
    return mape(np.full(len(HELD_OUT), mean), lab().latency_ms[HELD_OUT])


@SUITE.add()
def it_is_a_method(method: Method) -> None:
    assert isinstance(method, Method), "it lacks a part of `nas.predictors.Method`"
    assert method.scales <= {"log", "linear"}, f"its scales are {sorted(method.scales)}"


@SUITE.add()
def genes_alone_say_more_than_the_mean(method: Method) -> None:
    genes = replace(lab().table, extra_names=(), extras=np.empty((len(lab().table), 0)))
    predictor = Predictor(Features(lab().features.space), method, "log")
    mean, _ = predictor.fit(genes.rows(FITTED), lab().latency_ms[FITTED]).predict(genes.rows(HELD_OUT))
    error, guess = mape(mean, lab().latency_ms[HELD_OUT]), by_mean()
    assert error < 0.6 * guess, f"from genes its mean relative error is {error:.1%}, that of the mean {guess:.1%}"


@SUITE.add()
def with_a_cost_it_beats_the_parameter_count(method: Method) -> None:
    mean, std = fitted(cast(Hashable, method), 1.0).predict(lab().table.rows(HELD_OUT))
    error, guess = mape(mean, lab().latency_ms[HELD_OUT]), by_parameters()
    assert error < 0.5 * guess, f"its mean relative error is {error:.1%}, that of the parameter count {guess:.1%}"
    assert (std > 0).all(), "a standard deviation is not positive"
    assert np.isfinite(std).all(), "a standard deviation is not finite"


@SUITE.add()
def fits_are_deterministic(method: Method) -> None:
    for scale in method.scales:
        few, predictor = FITTED[:25], Predictor(lab().features, method, scale)
        first, again = (predictor.fit(lab().table.rows(few), lab().latency_ms[few]) for _ in range(2))
        mean, std = first.predict_target(lab().table.rows(HELD_OUT))
        same_mean, same_std = replace(again, std_factor=1.3).predict_target(lab().table.rows(HELD_OUT))
        assert np.array_equal(same_mean, mean), f"two fits at scale {scale} predict other means"
        assert np.array_equal(same_std, 1.3 * std), f"two fits at scale {scale} predict other standard deviations"


@SUITE.add()
def the_unit_does_not_matter(method: Method) -> None:
    """Seconds or milliseconds: the same prediction."""
    in_ms, in_s = (fitted(cast(Hashable, method), unit).predict(lab().table.rows(HELD_OUT))[0] for unit in (1.0, 1e-3))
    off = np.abs(1e3 * in_s / in_ms - 1)
    assert off.max() < 0.05, f"in seconds a prediction differs by {off.max():.1%}"
    assert np.median(off) < 0.01, f"in seconds half of the predictions differ by {np.median(off):.1%} and more"


@SUITE.add()
def few_points_are_enough_to_say_something(method: Method) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = np.arange(5)
        model = Predictor(lab().features, method, "log").fit(lab().table.rows(few), lab().latency_ms[few])
        mean, std = model.predict(lab().table.rows(HELD_OUT))
    error = mape(mean, lab().latency_ms[HELD_OUT])
    assert error < 1, f"from five points its mean relative error is {error:.1%}"
    assert (std > 0).all(), "a standard deviation is not positive"


@SUITE.add(lambda method: method.knows_distance)
def uncertainty_grows_away_from_the_data(method: Method) -> None:
    """Fitted to the smaller half of the nets: less sure of the largest tenth than of the nets that it knows."""
    order = np.argsort(lab().latency_ms)
    near, far = order[:70], order[-14:]
    model = Predictor(lab().features, method, "log").fit(lab().table.rows(near), lab().latency_ms[near])
    known, unknown = (np.median(model.predict_target(lab().table.rows(i))[1]) for i in (near, far))
    assert unknown > 1.1 * known, f"its standard deviation is {known:.2g} at the data and {unknown:.2g} away from it"


@SUITE.add()
def wrong_values_are_named(method: Method) -> None:
    for y, sentence in (
        ([1.0, 2.0], "each architecture needs one value: 4 architectures"),
        ([1.0, 2.0, np.nan, 4.0], "values must be positive and finite; number 2 is nan"),
        ([1.0, 0.0, 3.0, 4.0], "values must be positive and finite; number 1 is 0.0"),
    ):
        said = "nothing"
        try:
            Predictor(lab().features, method, "log").fit(lab().table.rows(np.arange(4)), y)
        except UserError as error:
            said = str(error)
        assert sentence in said, f"for the values {y} it said {said!r}"
