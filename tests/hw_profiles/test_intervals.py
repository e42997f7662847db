"""Ends of intervals hold what they say: of few nets, of skewed errors, and of the net that a search chooses."""

from collections.abc import Callable
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.hw_profiles.models.intervals import interval_ends

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]


def normal(rng: np.random.Generator, n: int) -> Array:
    return rng.normal(0, 0.1, n)


def heavy(rng: np.random.Generator, n: int) -> Array:
    return 0.05 * rng.standard_t(3, n)


def slow_phases(rng: np.random.Generator, n: int) -> Array:
    """A tenth of the nets was timed while the machine was slower."""
    return rng.normal(0, 0.03, n) + 0.35 * (rng.random(n) < 0.1)


def shares(draw: Draw, n: int) -> tuple[float, float]:
    """(share of new nets between the ends, share below the upper end), means over many draws of n residuals."""
    rng, found = np.random.default_rng(n), []
    for _ in range(300):
        (below, above), new = interval_ends(draw(rng, n)), draw(rng, 40)
        found.append((np.mean((-below <= new) & (new <= above)), np.mean(new <= above)))
    inside, kept = np.mean(found, axis=0)
    return float(inside), float(kept)


@pytest.mark.parametrize("draw", [normal, heavy, slow_phases])
@pytest.mark.parametrize("n", [40, 100])
def test_each_end_is_missed_by_one_in_twenty(draw: Draw, n: int) -> None:
    """One distance for both ends would leave a tenth of the nets with slow phases above the upper end."""
    inside, kept = shares(draw, n)
    assert 0.885 < inside < 0.925
    assert 0.94 < kept < 0.965


@pytest.mark.parametrize("draw", [normal, heavy, slow_phases])
@pytest.mark.parametrize("n", [5, 20])
def test_few_residuals_are_extrapolated(n: int, draw: Draw) -> None:
    """The largest residual of five nets, as a plain quantile has it, would hold two in three."""
    inside, kept = shares(draw, n)
    assert inside > 0.9
    assert kept > 0.92


def test_ends_of_known_residuals() -> None:
    residuals = np.linspace(-0.1, 0.9, 99)
    below, above = interval_ends(np.random.default_rng(0).permutation(residuals))
    assert above == pytest.approx(residuals[94])  # the 95th of 99: 100 x 0.95
    assert below == pytest.approx(-residuals[4])
    # Of 5 nets: Student's t with 4 degrees of freedom at 96 and 95 %, and sqrt(1 + 1 / 5); twice the squares above 0.
    five = np.array([0.5, 0, 0, 0, 0])
    assert interval_ends(five) == pytest.approx(
        (2.1318 * 0.5 * 0.2**0.5 * 1.2**0.5, 2.3329 * 0.5 * 0.48**0.5), rel=1e-3
    )
    assert interval_ends(np.zeros(50), noise=0.03) == pytest.approx((log(1.03), log(1.03)))


@pytest.mark.parametrize(("n", "draw"), [(20, normal), (100, normal), (100, slow_phases)])
def test_the_chosen_net_keeps_its_upper_end(n: int, draw: Draw) -> None:
    """Latency = size x error; the predictor knows the size, up to what n nets told it wrongly of a second feature.

    The quality grows with both, so the net that is chosen is one that is predicted too fast.
    """
    rng, kept = np.random.default_rng(n), []
    for _ in range(500):
        size, feature = rng.uniform(0, 1, 240), rng.normal(0, 1, 240)
        truth = size + 0.05 * feature + draw(rng, 240)
        x = np.column_stack([np.ones(240), size, feature])
        solve = np.linalg.solve(x[:n].T @ x[:n] + 0.01 * np.eye(3), x[:n].T)
        predicted, own = x @ (solve @ truth[:n]), np.einsum("nk,kn->n", x[:n], solve)
        _, above = interval_ends((truth - predicted)[:n] / (1 - own))  # of each net, from the others
        budget = np.quantile(truth, rng.uniform(0.3, 0.9))
        keeps = predicted[n:] + above <= budget
        if keeps.any():
            best = int(np.argmax(np.where(keeps, (size + 0.05 * feature)[n:], -np.inf)))
            kept.append(truth[n:][best] <= predicted[n:][best] + above)
    assert len(kept) > 400
    assert np.mean(kept) >= 0.93
