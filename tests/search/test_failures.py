"""A net without a finite number is never feasible, best, or learned from; and the search says which genes it has."""

import math
from typing import Any

import numpy as np
import optuna
import pytest
import torch

import nas
from nas.search.algorithms import algorithms
from nas.search.baselines import compare_baselines
from nas.search.failures import failure_notes
from nas.search.feasibility import least
from nas.search.reporting.analysis import importances

SPACE = nas.GeneSpace(
    {"width": [1, 2, 3, 4, 5, 6], "depth": [1, 2, 3], "layers.0.mixer": ["softmax", "linear"], "norm": ["a", "b"]}
)


def broken(value: Any, mixer: str = "linear") -> Any:
    """The best of all but for a value that is none, where the mixer is linear."""

    def quality(a: nas.Architecture) -> Any:
        return value if a["layers.0.mixer"] == mixer else a["width"] * a["depth"] / 20

    return quality


def cost(a: nas.Architecture) -> float:
    return a["width"] + a["depth"]


VALUES = [-math.inf, math.inf, torch.tensor(math.nan), np.float32(math.nan), 10**400]
CASES = [*((a, math.nan) for a in algorithms() if a != "linas"), *(("nsga2", value) for value in VALUES)]


@pytest.mark.parametrize(("algorithm", "value"), CASES, ids=[f"{a}-{i}" for i, (a, _) in enumerate(CASES)])
def test_what_is_not_finite_is_a_failure_of_that_net_alone(algorithm: str, value: Any) -> None:
    objectives = {"quality": nas.maximize(broken(value)), "cost": nas.minimize(cost)}
    study = nas.search(SPACE, objectives, algorithm=algorithm, evaluations=45)
    failed = {e.architecture for e in study.evaluations if e.failed}
    assert failed == {a for a in study.architectures if a["layers.0.mixer"] == "linear"} != set()
    assert study.best()["layers.0.mixer"] == study.knee()["layers.0.mixer"] == "softmax"
    assert set(study.front()["layers.0.mixer"]) == {"softmax"}
    assert not study.trials()["feasible"][[a in failed for a in study.architectures]].any()
    assert np.isfinite(study.hypervolume())
    if algorithm == "nsga2":
        assert all(math.isfinite(share) for found in importances(study).values() for share in found.values())
    assert failure_notes(study) == [
        f"{len(failed)} of 45 nets gave no finite quality; all have layers.0.mixer=linear, and none of the others does."
    ]


def test_a_constraint_without_a_finite_value_is_not_kept() -> None:
    bound = nas.Constraint("memory", upper=100.0, function=broken(math.nan))
    study = nas.search(SPACE, {"cost": nas.minimize(cost)}, constraints=[bound], evaluations=72)
    assert study.best()["layers.0.mixer"] == "softmax"
    assert failure_notes(study)[0].startswith("36 of 72 nets gave no finite memory; all have layers.0.mixer=linear")


def test_the_note_names_what_most_explains_the_failures() -> None:
    def quality(a: nas.Architecture) -> float:
        return math.nan if a["width"] == 6 and a["norm"] == "b" else 1.0

    study = nas.search(SPACE, {"quality": nas.maximize(quality)}, algorithm="random", evaluations=72)
    assert failure_notes(study) == ["6 of 72 nets gave no finite quality; all have width=6, as 6 of the 66 others do."]
    seldom = {a for i, a in enumerate(study.architectures) if i % 7 == 0}
    scattered = {"quality": nas.maximize(lambda a: math.nan if a in seldom else 1.0)}
    study = nas.search(SPACE, scattered, algorithm="random", evaluations=72)
    assert failure_notes(study) == ["11 of 72 nets gave no finite quality; no single gene explains it."]
    assert failure_notes(nas.search(SPACE, {"cost": nas.minimize(cost)}, evaluations=9)) == []


def test_where_all_fail_the_metric_is_named() -> None:
    objectives = {"cost": nas.minimize(cost), "quality": nas.maximize(lambda _: math.nan)}
    with pytest.raises(nas.UserError, match="none of 12 architectures gave a finite value for quality; look"):
        nas.search(SPACE, objectives, evaluations=12)


@pytest.mark.parametrize("value", [None, "0.5", torch.zeros(2), np.zeros(3), [1.0], 1j, {"a": 1}, object()])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(nas.UserError, match=r"'quality' returned .* expected one number, or NaN") as raised:
        nas.search(SPACE, {"quality": nas.maximize(lambda _: value)}, evaluations=3)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [torch.tensor(0.5), torch.tensor([0.5], requires_grad=True), np.float16(0.5), True])
def test_numbers_of_other_libraries_are_numbers(value: Any) -> None:
    study = nas.search(SPACE, {"quality": nas.maximize(lambda _: value)}, evaluations=3)
    assert study.best()["quality"] == (0.5 if value is not True else 1.0)


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf])
def test_a_bound_is_finite(bound: float) -> None:
    with pytest.raises(nas.UserError, match="bounds must be finite"):
        nas.Constraint("cost", upper=bound)


def test_a_baseline_that_fails_as_a_whole_is_left_out() -> None:
    def quality(a: nas.Architecture) -> float:
        return 1.0 if a["norm"] != SPACE.largest["norm"] else math.nan

    study = nas.search(SPACE, {"quality": nas.maximize(quality)}, evaluations=20)
    assert list(compare_baselines(study)) == ["random search"]


def test_the_least_is_never_no_number() -> None:
    space = nas.GeneSpace({"width": [1, 2, 3], "depth": [1, 2, 3]})
    measured = {(1, 1): math.nan, (2, 1): 0.5}
    found = least(space, lambda a: measured.get((a["width"], a["depth"]), 1.0))
    assert (found["width"], found["depth"]) == (2, 1)


@pytest.mark.parametrize("algorithm", ["guided", "nsga2"])
def test_huge_penalties_do_not_stop_a_search(algorithm: str) -> None:
    objectives = {"quality": nas.minimize(broken(1e308)), "cost": nas.minimize(cost)}
    study = nas.search(SPACE, objectives, algorithm=algorithm, evaluations=60)
    assert set(study.front()["layers.0.mixer"]) == {"softmax"}


def test_trials_of_optuna_with_bounds_that_are_no_numbers_are_not_the_parents() -> None:
    asked: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        asked.append({"width": trial.suggest_int("width", 1, 6), "norm": trial.suggest_categorical("norm", ["a", "b"])})
        trial.set_user_attr("bound", math.nan if asked[-1]["norm"] == "b" else -1.0)
        return float(asked[-1]["width"])

    space = nas.GeneSpace({"width": [1, 2, 3, 4, 5, 6], "norm": ["a", "b"]})
    sampler = nas.Sampler(space, "guided")
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=6)
    for trial in study.get_trials(deepcopy=False):
        trial.system_attrs["constraints"] = [trial.user_attrs["bound"]]
        known = sampler._evaluation(space.architecture(trial.params), trial, study.directions)
        assert known is not None
        assert known.failed is (trial.params["norm"] == "b")
