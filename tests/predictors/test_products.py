"""The method that sums products of genes: known answers."""

import numpy as np
import pytest

from nas.predictors import Features, Predictor
from nas.predictors.methods.products import Products, robust_fit
from nas.search_space.architecture import Architecture
from nas.search_space.gene_space import GeneSpace

SPACE = GeneSpace(
    {
        "depth": [1, 2, 3, 4, 5, 6],
        "width": [128, 256, 384],
        "ffn": [256, 512, 1024, 2048],
        "heads": [2, 4, 8],
        "k": [3, 5],
    }
)


def latency_ms(net: Architecture) -> float:
    """A start, and for each layer a constant and its matrices."""
    depth, width, ffn = (float(net[name]) for name in ("depth", "width", "ffn"))
    return 2 + depth * (1 + width * ffn / 1e5)


def nets(n: int, seed: int) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(n)]


@pytest.mark.parametrize("seed", range(4))
def test_finds_the_formula_from_twenty_nets_of_which_two_were_disturbed(seed: int) -> None:
    known, others = nets(20, seed), nets(300, 100 + seed)
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.005, 20))
    y = noise * [latency_ms(net) for net in known]
    y[:2] *= 1.5
    model = Predictor(Features(SPACE), "products", "log").fit(known, y)
    true = np.array([latency_ms(net) for net in others])
    assert np.abs(model.predict(others)[0] / true - 1).mean() < 0.02


def test_a_cost_column_that_explains_all_is_enough_for_five_nets() -> None:
    features = Features(SPACE, lambda net: {"kernels": 10 * float(net["depth"]), "cost": latency_ms(net)})
    known, others = nets(5, 0), nets(300, 1)
    noise = np.array([1.01, 0.99, 1.0, 1.02, 0.98])
    model = Predictor(features, "products", "log").fit(known, noise * [3 * latency_ms(net) for net in known])
    true = np.array([3 * latency_ms(net) for net in others])
    assert np.abs(model.predict(others)[0] / true - 1).mean() < 0.04


def test_layers_that_are_named_alike_are_added_up() -> None:
    """Twelve genes, one term: ten nets are enough."""
    space = GeneSpace({f"layers.{i}.ffn": [1, 2, 3, 4] for i in range(12)})
    rng = np.random.default_rng(0)
    known, others = [space.sample(rng) for _ in range(10)], [space.sample(rng) for _ in range(200)]
    y = [5 + sum(float(v) for v in net.values()) for net in known]
    model = Predictor(Features(space), "products", "log").fit(known, y)
    true = np.array([5 + sum(float(v) for v in net.values()) for net in others])
    assert np.abs(model.predict(others)[0] / true - 1).mean() < 0.01


def test_weights_are_above_zero_so_larger_is_never_faster() -> None:
    known = nets(15, 3)
    y = np.random.default_rng(0).lognormal(0, 0.3, 15) * [latency_ms(net) for net in known]
    model = Predictor(Features(SPACE), Products(), "log").fit(known, y)
    ladder = [{**SPACE.smallest, "depth": d} for d in (1, 2, 3, 4, 5, 6)]
    assert (np.diff(model.predict(ladder)[0]) >= -1e-9).all()


def test_robust_fit_ignores_a_gross_error() -> None:
    x = np.column_stack([np.ones(9), np.arange(1.0, 10)])
    relative = x / (2 + 3 * x[:, 1:])
    relative[4] *= 0.5
    weights, errors = robust_fit(relative, np.array([[0, 1]]))
    assert weights[0] == pytest.approx([2, 3], rel=0.03)
    assert errors[0][4] == pytest.approx(-0.5, abs=0.02)
