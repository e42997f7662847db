"""What a predictor refuses."""

import numpy as np
import pytest

from nas.errors import UserError
from nas.predictors import Features, FittedPredictor, Predictor
from nas.search_space.gene_space import GeneSpace

SPACE = GeneSpace({"width": [32, 64, 96, 128], "depth": [2, 4, 6], "mixer": ["softmax", "linear"]})
FEATURES = Features(SPACE)
NETS = SPACE.first(24)
Y = [float(n["width"]) * float(n["depth"]) + 10 for n in NETS]


def fitted() -> FittedPredictor:
    return Predictor(FEATURES, "ridge", "log").fit(NETS, Y)


def test_mappings_are_architectures_too() -> None:
    model = fitted()
    np.testing.assert_array_equal(model.predict([dict(NETS[3])])[0], model.predict([NETS[3]])[0])
    assert [len(x) for x in model.predict([])] == [0, 0]


def test_scale_is_kept() -> None:
    mean, std = fitted().predict(NETS)
    log_mean, log_std = fitted().predict_target(NETS)
    np.testing.assert_allclose(np.log(mean), log_mean)
    np.testing.assert_allclose(std / mean, log_std)


@pytest.mark.parametrize(
    ("predictor", "n", "sentence"),
    [
        (Predictor(FEATURES, "rigde"), 24, "unknown predictor 'rigde'; valid: ridge"),
        (Predictor(FEATURES, "products"), 24, "predictor 'products' needs scale=log"),
        (Predictor(FEATURES), 2, "needs 3 architectures at least, not 2"),
        (Predictor(Features(SPACE, lambda _: {"cost": -1.0})), 5, "extra column 'cost' must be a finite number"),
    ],
)
def test_what_cannot_be_fitted_is_said(predictor: Predictor, n: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        predictor.fit(NETS[:n], Y[:n])


def test_other_spaces_are_refused() -> None:
    other = GeneSpace({"width": [1, 2], "heads": [1, 2]})
    with pytest.raises(UserError, match="unknown gene 'heads'"):
        fitted().predict([other.sample(0)])
    with pytest.raises(UserError, match="option 33"):
        fitted().predict([{**NETS[0], "width": 33}])
    with pytest.raises(UserError, match="other columns"):
        fitted().predict(Features(other).table(other.first(3)))
    with pytest.raises(UserError, match=r"differ: .*depth"):
        fitted().predict(Features(other).table(other.first(3)))
