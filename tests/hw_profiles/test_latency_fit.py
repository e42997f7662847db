"""The fit recovers a device that is known, its intervals hold what they promise, and measuring keeps its protocol."""

from dataclasses import replace
from itertools import pairwise
from math import log

import numpy as np
import pytest

from nas.errors import UserError
from nas.hw_profiles.catalog import load_device
from nas.hw_profiles.cost import Cost, OperatorCost
from nas.hw_profiles.device import Device
from nas.hw_profiles.measuring.measure import Measurement, calibrate
from nas.hw_profiles.models.latency import LatencyModel, analytic, fit, predict
from nas.hw_profiles.models.priors import KINDS, Prior, Rates, prior_of

TRUE = Rates(2e12, 3e10, 8.0)
PRIOR = Prior(Rates(5e12, 1e11, 3.0))


def net(rng: np.random.Generator) -> Cost:
    """A random net: some kernels bound by compute, some by memory, some by their launch."""
    kernels = int(rng.integers(5, 80))
    flops, moved = 10 ** rng.uniform(4, 8.5, kernels), 10 ** rng.uniform(3, 6.5, kernels)
    return Cost.from_operators([OperatorCost("k", "matmul", f, b, 0) for f, b in zip(flops, moved, strict=True)])


def true_ms(cost: Cost) -> float:
    seconds = 0.0
    for op in cost.operators:
        seconds += op.flops / TRUE.flops_per_s + op.bytes / TRUE.bytes_per_s + TRUE.launch_us * 1e-6
    return 1e3 * seconds


def observed(n: int, seed: int, noise: float) -> tuple[list[Cost], list[float]]:
    rng = np.random.default_rng(seed)
    costs = [net(rng) for _ in range(n)]
    return costs, [true_ms(c) * float(np.exp(noise * rng.standard_normal())) for c in costs]


def test_rates_are_a_sum_and_the_roofline_takes_the_larger() -> None:
    model = analytic(Prior(TRUE), "fp32")
    cost = net(np.random.default_rng(0))
    assert predict(model, cost).value == pytest.approx(true_ms(cost))
    overlapped = sum(
        max(op.flops / TRUE.flops_per_s, op.bytes / TRUE.bytes_per_s) + TRUE.launch_us * 1e-6 for op in cost.operators
    )
    assert predict(replace(model, form="roofline"), cost).value == pytest.approx(1e3 * overlapped)


def test_fit_recovers_the_rates() -> None:
    costs, latencies = observed(40, seed=1, noise=0.02)
    model = fit(costs, latencies, PRIOR, tier="B", precision="fp32")
    assert model.rates.log()[:3] == pytest.approx(TRUE.log()[:3], abs=0.15)
    assert model.error == pytest.approx(0.02 * (2 / np.pi) ** 0.5, rel=0.5)


def test_few_points_stay_near_the_prior_where_they_say_nothing() -> None:
    # One kernel, bound by memory: nothing is learnt of the compute rate.
    cost = Cost.from_operators([OperatorCost("k", "elementwise", 1.0, 1e9, 0)])
    model = fit([cost] * 5, [1e3 * 1e9 / 3e10] * 5, PRIOR, tier="B", precision="fp32")
    assert model.rates.flops_per_s == pytest.approx(PRIOR.rates.flops_per_s, rel=0.01)
    assert model.rates.bytes_per_s == pytest.approx(3e10, rel=0.05)


def test_the_grey_box_learns_that_odd_numbers_of_channels_are_slow() -> None:
    def layers(rng: np.random.Generator) -> list[OperatorCost]:
        widths = rng.choice([48, 56, 64, 72, 96, 128], size=9).tolist()
        return [
            OperatorCost("conv", "convolution", 2e5 * a * b, 4.0 * a * b, 4e3 * b, 1, a, b) for a, b in pairwise(widths)
        ]

    def milliseconds(rows: list[OperatorCost]) -> float:
        return sum(op.flops / 1e10 * (1 if op.channels % 64 == 0 else 1.5) for op in rows)

    rng = np.random.default_rng(0)
    nets = [layers(rng) for _ in range(90)]
    costs, truth = [Cost.from_operators(rows) for rows in nets], [milliseconds(rows) for rows in nets]
    blind = [Cost.from_operators([replace(op, length=0, channels=0) for op in rows]) for rows in nets]
    errors = []
    for seen in (costs, blind):
        said = LatencyModel.fit(seen[:60], truth[:60], form="grey-box").predict(seen[60:])["mean_ms"]
        errors.append(float(np.mean(np.abs(said / truth[60:] - 1))))
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("n", [6, 12, pytest.param(24, marks=pytest.mark.slow)])
def test_intervals_hold_nine_in_ten(n: int) -> None:
    inside = []
    for seed in range(6):
        costs, latencies = observed(n + 20, seed=seed, noise=0.15)
        model = fit(costs[:n], latencies[:n], PRIOR, tier="B", precision="fp32")
        for cost, truth in zip(costs[n:], latencies[n:], strict=True):
            p = predict(model, cost)
            inside.append(p.low <= truth <= p.high)
    assert np.mean(inside) > 0.85
    assert len(inside) == 120


WRONG = [(10.0, 0.1), (0.1, 10.0), *(pytest.param(*w, marks=pytest.mark.slow) for w in [(10.0, 10.0), (0.1, 0.1)])]


@pytest.mark.parametrize(("flops", "moved"), WRONG)
def test_a_wrong_datasheet_widens_the_interval_and_does_not_lie(flops: float, moved: float) -> None:
    right = Prior(Rates(TRUE.flops_per_s, TRUE.bytes_per_s, TRUE.launch_us))
    wrong = Prior(Rates(flops * TRUE.flops_per_s, moved * TRUE.bytes_per_s, TRUE.launch_us))
    inside, wider = [], []
    for seed in range(20):
        costs, latencies = observed(25, seed=seed, noise=0.03)
        told, misled = (fit(costs[:5], latencies[:5], p, tier="B", precision="fp32") for p in (right, wrong))
        wider.append(log(misled.high_factor) / log(told.high_factor))
        for cost, truth in zip(costs[5:], latencies[5:], strict=True):
            p = predict(misled, cost)
            inside.append(p.low <= truth <= p.high)
    assert np.mean(inside) > 0.85
    assert np.median(wider) > 1


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_the_datasheet_lacks_makes_the_prior_weaker(kind: str) -> None:
    known, partly, unknown = prior_of(kind, 1e12, 1e10), prior_of(kind, 1e12, None), prior_of(kind, None, None)
    assert known.factor < partly.factor < unknown.factor
    assert known.spread[1] < unknown.spread[1]
    assert known.rates.flops_per_s < 1e12


def as_measured(latencies: list[float]) -> list[Measurement]:
    return [Measurement(ms, 1.1 * ms, 0.01, 50) for ms in latencies]


def test_calibrate_gives_a_tier_and_keeps_the_device() -> None:
    costs, latencies = observed(30, seed=3, noise=0.03)
    device = load_device("xeon-e5-2640")
    fitted = calibrate(list(zip(costs, as_measured(latencies), strict=True)), device)
    assert fitted.model is not None
    assert fitted.model.error is not None
    assert fitted.model.error < 0.06
    assert (fitted.model.tier, fitted.model.source) == ("B", "calibrated")
    assert fitted.name == device.name
    assert Device.from_json(fitted.to_json()).latency(costs[0]) == fitted.latency(costs[0])


@pytest.mark.slow
def test_a_hundred_nets_are_tier_a() -> None:
    costs, latencies = observed(100, seed=4, noise=0.03)
    model = calibrate(list(zip(costs, as_measured(latencies), strict=True)), load_device("h100")).model
    assert model is not None
    assert model.tier == "A"


def test_too_few_measurements_are_refused() -> None:
    costs, latencies = observed(4, seed=5, noise=0)
    with pytest.raises(UserError, match="5 measured nets or more, not 4"):
        calibrate(list(zip(costs, as_measured(latencies), strict=True)), load_device("h100"))
