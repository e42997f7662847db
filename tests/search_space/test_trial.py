"""Questions that cannot be answered are refused when the space is made."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

import nas

WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no step": (lambda t: t.suggest_int("w", 8, 16, step=0), "step must be more than 0"),
    "negative step": (lambda t: t.suggest_int("w", 16, 8, step=-8), "step must be more than 0"),
    "float bounds": (lambda t: t.suggest_int("w", 8.5, 16), "low must be an integer, got 8.5"),
    "float step": (lambda t: t.suggest_int("w", 8, 16, step=0.5), "step must be an integer, got 0.5"),
    "boolean": (lambda t: t.suggest_int("w", False, 16), "low must be an integer, got False"),
    "downwards": (lambda t: t.suggest_int("w", 16, 8), "16..8 by 1 has none"),
    "too many": (lambda t: t.suggest_int("w", 0, 10**400), "has more"),
    "NaN": (lambda t: t.suggest_float("w", float("nan"), 1, step=0.1), "low must be a finite number, got nan"),
    "infinite": (lambda t: t.suggest_float("w", 0, float("inf"), step=0.1), "high must be a finite number, got inf"),
    "float without step": (lambda t: t.suggest_float("w", 0, 1, step=0.0), "step must be more than 0"),
    "zero is False": (lambda t: t.suggest_categorical("w", [0, False]), "0 and False are equal"),
    "one is 1.0": (lambda t: t.suggest_categorical("w", [1, 1.0]), "1 and 1.0 are equal"),
    "True is 1": (lambda t: t.suggest_categorical("w", [True, 1, 2]), "True and 1 are equal"),
    "infinite option": (lambda t: t.suggest_categorical("w", [1.0, float("inf")]), "inf is not finite"),
    "a list": (lambda t: t.suggest_categorical("w", [[1], [2]]), "is not a number, string"),
    "no options": (lambda t: t.suggest_categorical("w", []), "has no options"),
    "a number as name": (lambda t: t.suggest_int(5, 8, 16), "name of a gene must be a string, got 5"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_questions_are_refused_in_one_sentence(name: str) -> None:
    ask, sentence = WRONG[name]

    def function(trial: Any) -> nn.Module:
        ask(trial)
        return nn.Linear(1, 1)

    with pytest.raises(nas.UserError, match=sentence):
        nas.SearchSpace(function)


@pytest.mark.parametrize(
    "ask",
    [
        lambda t: t.suggest_int("w", np.int64(8), np.int32(16), step=np.int8(8)),
        lambda t: t.suggest_categorical("w", list(np.array([8, 16]))),
        lambda t: t.suggest_float("w", np.float32(8), 16, step=8),
    ],
)
def test_numbers_of_numpy_are_numbers(ask: Callable[[Any], Any]) -> None:
    space = nas.SearchSpace(lambda t: nn.Linear(1, int(ask(t))))
    assert dict(space.largest) == {"w": 16}
    assert {type(v) for v in space.genes["w"].options} <= {int, float}


def test_equal_options_are_refused_in_a_space_without_a_net_too() -> None:
    with pytest.raises(nas.UserError, match=r"1 and 1\.0 are equal"):
        nas.GeneSpace({"w": [1, 1.0]})
