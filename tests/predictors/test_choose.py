"""Choice by cross-validation, baselines and intervals."""

import numpy as np
import pytest

from nas.errors import UserError
from nas.predictors import Features, choose, conformal
from nas.search_space.gene_space import GeneSpace

SPACE = GeneSpace({"depth": [1, 2, 3, 4, 5, 6], "width": [128, 256, 384], "mixer": ["softmax", "linear", "none"]})
FEATURES = Features(SPACE)
RNG = np.random.default_rng(0)
NETS = [SPACE.sample(RNG) for _ in range(80)]
TRUE = np.array([3 + float(n["depth"]) * (float(n["width"]) + 200 * (n["mixer"] == "softmax")) / 100 for n in NETS])
Y = TRUE * np.exp(RNG.normal(0, 0.03, len(NETS)))
QUICK = ["ridge", "products"]


def test_the_table_has_all_and_the_best_first() -> None:
    choice = choose(
        FEATURES,
        NETS,
        Y,
        scale="log",
        methods=QUICK,
        baselines={"parameters": [float(n["width"]) ** 2 for n in NETS]},
        rivals={"truth": lambda _, out: TRUE[out], "noise": lambda _, out: np.ones(len(out))},
    )
    assert set(choice.table.index) == {*QUICK, "parameters", "truth", "noise"}
    assert choice.name == choice.table.index[0] == "truth"
    assert choice.table.index[-1] == "noise"
    assert choice.table["mape"].is_monotonic_increasing
    assert choice.table.loc["truth", "mape"] == pytest.approx(np.abs(TRUE / Y - 1).mean())
    best = next(name for name in choice.table.index if name in QUICK)
    assert choice.fitted.predictor.method.name == best  # type: ignore[union-attr]
    assert choice.table.loc[best, "mape"] < 0.5 * choice.table.loc["parameters", "mape"]


def test_a_line_over_the_right_number_is_exact() -> None:
    choice = choose(FEATURES, NETS, TRUE**2, scale="log", methods=["ridge"], baselines={"root": TRUE})
    assert choice.table.loc["root", "mape"] < 1e-9
    assert choice.table.loc["root", "tau"] > 0.97  # not 1: some nets were drawn twice


@pytest.mark.parametrize("metric", ["rmse", "tau", "median_ape"])
def test_metric_sorts(metric: str) -> None:
    rivals = {"truth": lambda _, out: TRUE[out], "the wrong way": lambda _, out: 1 / TRUE[out]}
    table = choose(FEATURES, NETS, Y, scale="log", methods=["ridge"], metric=metric, rivals=rivals).table  # type: ignore[arg-type]
    assert len(table) == 3
    assert table[metric].is_monotonic_decreasing if metric == "tau" else table[metric].is_monotonic_increasing


def test_stds_are_those_of_points_left_out() -> None:
    choice = choose(FEATURES, NETS[:50], Y[:50], scale="log", methods=["ridge"])
    mean, std = choice.fitted.predict_target(NETS[50:])
    z = (np.log(Y[50:]) - mean) / std
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.6


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize("normalized", [False, True])
def test_conformal_intervals_hold(scale: str, normalized: bool) -> None:
    """300 points whose noise varies; 5,000 new ones."""
    rng = np.random.default_rng(1)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        std = rng.uniform(0.05, 0.2, n)
        return std, rng.normal(0, std)

    std, residuals = draw(300)
    interval = conformal(residuals, std, scale, normalized=normalized)  # type: ignore[arg-type]
    std, error = draw(5000)
    mean = np.full(5000, 7.0)
    true = mean * np.exp(error) if scale == "log" else mean + error
    low, high = interval.bounds(mean, mean * std if scale == "log" else std)
    assert 0.87 < np.mean((low <= true) & (true <= high)) < 0.93
    assert np.ptp(high - low) > 0 if normalized else np.ptp(high - low) == pytest.approx(0)


def test_choice_predicts_with_its_interval() -> None:
    choice = choose(FEATURES, NETS[:60], Y[:60], scale="log", methods=["products"])
    found = choice.predict(NETS[60:])
    assert list(found) == ["mean", "std", "low", "high"]
    assert (found["low"] < found["mean"]).all()
    assert np.mean((found["low"] <= Y[60:]) & (Y[60:] <= found["high"])) > 0.6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"metric": "mse"}, "unknown metric 'mse'; valid: rmse"),
        ({"methods": ["products"]}, "none of these predictors can be used at scale 'linear'"),
        ({"baselines": {"FLOPs": [0.0] * 80}}, "baseline 'FLOPs' needs one positive number"),
    ],
)
def test_wrong_input_is_named(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        choose(FEATURES, NETS, Y, **arguments)  # type: ignore[arg-type]
