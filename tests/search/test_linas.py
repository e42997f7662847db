"""The predictors of LINAS."""

import numpy as np
import pytest

from nas.search.algorithms.linas import _predictor


def nets(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten genes of four options, one-hot, and a loss that bends with their sum."""
    rows = np.random.default_rng(0).integers(0, 4, (n, 10))
    return np.eye(4)[rows].reshape(n, 40), (rows.sum(1) / 10) ** 2


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_does_not_matter(unit: float) -> None:
    x, y = nets(60)
    found, other = (_predictor(x[:40], scale * y[:40]).predict(x[40:]) for scale in (1.0, unit))
    np.testing.assert_allclose(other, found, rtol=1e-3)
    assert np.corrcoef(found, y[40:])[0, 1] > 0.9


def test_losses_that_are_all_zero() -> None:
    x, y = nets(20)
    assert (_predictor(x, 0 * y).predict(x) == 0).all()
