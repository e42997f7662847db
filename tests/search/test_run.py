import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

import nas

SPACE = nas.GeneSpace({"a": [1, 2, 3, 4], "b": ["x", "y"], "c": [0.1, 0.2, 0.5], "d": [True, False], "e": [8, 16, 64]})
FIRST = {"cost": nas.minimize(lambda a: a["a"] * a["e"]), "gain": nas.maximize(lambda a: a["a"] + 10 * a["c"])}


def test_directions_are_kept_as_stated() -> None:
    up = nas.search(SPACE, {"v": nas.maximize(lambda a: a["a"] * a["e"])}, evaluations=60)
    down = nas.search(SPACE, {"v": (lambda a: a["a"] * a["e"], "minimize")}, evaluations=60)
    other_order = nas.search(SPACE, {"v": ("minimize", lambda a: a["a"] * a["e"])}, evaluations=60)
    assert up.best()["v"] == 256
    assert down.best()["v"] == other_order.best()["v"] == 8
    assert up.trials()["v"].min() > 0
    assert up.optuna.best_value == 256


@pytest.mark.parametrize("given", [len, (len, "smaller"), "minimize", None])
def test_an_objective_without_direction_is_refused(given: object) -> None:
    with pytest.raises(nas.UserError, match="'v' states no direction; write minimize"):
        nas.search(SPACE, {"v": given})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": {}}, "at least one objective"),
        ({"algorithm": "nsga3"}, "unknown algorithm 'nsga3'; valid: nsga2"),
        ({"evaluations": 0}, "evaluations must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"objectives": {"a": nas.minimize(len)}}, "'a' is taken"),
        ({"objectives": {"id": nas.minimize(len)}}, "'id' is taken"),
        ({"constraints": [nas.Constraint("gian", lower=1)]}, "'gian'; valid: gain"),
        ({"constraints": [nas.Constraint("cost", upper=1, function=len)]}, "'cost' is taken"),
        ({"objectives": {"v": nas.minimize(lambda _: "big")}}, "'v' returned 'big'"),
        ({"objectives": {"v": nas.minimize(lambda _: [1.0], batched=True)}}, "'v' returned 1 numbers for 30"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict, message: str) -> None:
    with pytest.raises(nas.UserError, match=message):
        nas.search(SPACE, **({"objectives": FIRST} | arguments))


def test_a_constraint_needs_a_bound() -> None:
    with pytest.raises(nas.UserError, match="'cost' has no bound"):
        nas.Constraint("cost")


def test_every_architecture_is_evaluated_once_and_a_tiny_space_ends() -> None:
    calls: list[str] = []
    tiny = nas.GeneSpace({"a": [1, 2, 3], "b": ["x", "y"]})
    study = nas.search(tiny, {"v": nas.minimize(lambda a: calls.append(a.id) or a["a"])})
    assert len(study) == len(calls) == len(set(calls)) == 6
    assert len(nas.search(nas.GeneSpace({"a": [1]}), {"v": nas.minimize(lambda _: 0)})) == 1


def test_batched_functions_see_lists_and_give_the_same_search() -> None:
    sizes: list[int] = []

    def cost(architectures: list) -> list:
        sizes.append(len(architectures))
        return [a["a"] * a["e"] for a in architectures]

    together = nas.search(SPACE, FIRST | {"cost": nas.minimize(cost, batched=True)}, evaluations=35)
    assert sizes == [30, 5]
    assert together.evaluations == nas.search(SPACE, FIRST, evaluations=35).evaluations


def test_numbers_of_a_generator_are_stored_as_they_come(tmp_path: Path) -> None:
    given: list[str] = []

    def costs(architectures: list) -> Iterator[int]:
        for a in architectures:
            if len(given) == 14:
                given.append("interrupted")
                raise RuntimeError("out of memory")
            given.append(a.id)
            yield a["a"] * a["e"]

    def run() -> nas.Study:
        objectives = FIRST | {"cost": nas.minimize(costs, batched=True)}
        return nas.search(SPACE, objectives, evaluations=25, storage=tmp_path / "s.db")

    with pytest.raises(RuntimeError, match="out of memory"):
        run()
    assert run().evaluations == nas.search(SPACE, FIRST, evaluations=25).evaluations
    assert len(given) == len(set(given)) == 26
    with pytest.raises(nas.UserError, match="'v' returned 3 numbers for 30"):
        nas.search(SPACE, {"v": nas.minimize(lambda _: iter([1, 2, 3]), batched=True)})


@pytest.mark.parametrize("batched", [False, True])
def test_repeats_make_means(batched: bool) -> None:
    noise = iter([1.0, 2.0, 6.0])
    calls = {False: lambda _: next(noise), True: lambda nets: [next(noise) for _ in nets]}
    study = nas.search(SPACE, {"v": nas.minimize(calls[batched], batched=batched, repeats=3)}, evaluations=1)
    assert study.evaluations[0].metrics["v"] == 3
    with pytest.raises(nas.UserError, match="repeats must be at least 1, got 0"):
        nas.minimize(lambda _: 1, repeats=0)


def test_constraints_bound_objectives_and_functions() -> None:
    bounds = [
        nas.Constraint("cost", upper=64),
        nas.Constraint("sum", lower=3, upper=4, function=lambda a: a["a"] + a["d"]),
    ]
    study = nas.search(SPACE, FIRST, constraints=bounds, evaluations=SPACE.size)
    rows = study.trials()
    assert (rows["feasible"] == ((rows["cost"] <= 64) & rows["sum"].between(3, 4))).all()
    assert 0 < rows["feasible"].sum() < len(rows)
    assert study.front()["feasible"].all()
    optuna_ids = {t.user_attrs["architecture"] for t in study.optuna.best_trials}
    assert optuna_ids == set(study.front()["id"])


def test_the_search_goes_where_the_constraint_allows() -> None:
    space = nas.GeneSpace({f"g{i}": list(range(10)) for i in range(6)})
    total = {"total": nas.maximize(lambda a: sum(a.values()))}
    study = nas.search(space, total, constraints=[nas.Constraint("total", upper=20)], evaluations=150)
    assert study.best()["total"] >= 19
    assert study.trials()["feasible"].mean() > 0.25  # uniform draws: 13 %


def test_impossible_bounds_say_so() -> None:
    study = nas.search(SPACE, FIRST, constraints=[nas.Constraint("cost", upper=1)], evaluations=20)
    assert len(study.front()) == 0
    assert study.hypervolume() == 0
    for answer in (study.best, study.knee):
        with pytest.raises(nas.Infeasible, match=r"none of the 20 .*cost at most 1"):
            answer()


def test_failures_are_kept_and_the_search_goes_on(tmp_path: Path) -> None:
    def sometimes(a: nas.Architecture) -> float:
        return {1: math.nan, 2: math.inf}.get(a["a"], a["a"])

    def run() -> nas.Study:
        return nas.search(SPACE, FIRST | {"s": nas.minimize(sometimes)}, evaluations=30, storage=tmp_path / "s.db")

    study = run()
    rows = study.trials()
    assert (rows["s"].isna() == rows["a"].isin([1, 2])).all()
    assert not rows.loc[rows["s"].isna(), "feasible"].any()
    assert rows["cost"].notna().all()
    assert math.isfinite(study.hypervolume())
    again = run().trials()
    assert again.equals(rows)
    with pytest.raises(nas.UserError, match="none of 20 architectures gave a finite value for v"):
        nas.search(SPACE, {"v": nas.minimize(lambda _: math.nan)}, evaluations=20)


def test_progress_is_told_after_every_evaluation() -> None:
    told: list[tuple[int, int, int]] = []
    nas.search(SPACE, FIRST, evaluations=12, progress=lambda done, total, study: told.append((done, total, len(study))))
    assert told == [(i, 12, i) for i in range(1, 13)]


def test_an_error_in_an_objective_loses_nothing(tmp_path: Path) -> None:
    calls: list[str] = []

    def flaky(a: nas.Architecture) -> float:
        calls.append(a.id)
        if len(calls) == 14:
            raise RuntimeError("out of memory")
        return float(a["a"])

    def run() -> nas.Study:
        return nas.search(SPACE, FIRST | {"v": nas.minimize(flaky)}, evaluations=25, storage=tmp_path / "s.db")

    with pytest.raises(RuntimeError, match="out of memory"):
        run()
    study = run()
    assert len(calls) == 26  # the one that raised is the only one that was repeated
    assert calls[13] == calls[14]
    assert [a.id for a in study.architectures] == calls[:13] + calls[14:]


KILLED = """
import sys, time, nas
def cost(a):
    time.sleep(0.02)
    return a["a"] * a["e"]
space = nas.GeneSpace({"a": [1, 2, 3, 4], "b": ["x", "y"], "c": [0.1, 0.2, 0.5], "d": [True, False], "e": [8, 16, 64]})
print("ready", flush=True)
nas.search(space, {"cost": nas.minimize(cost), "gain": nas.maximize(lambda a: a["a"] + 10 * a["c"])},
           evaluations=60, storage=sys.argv[1], progress=lambda done, *_: print(done, flush=True))
"""


@pytest.mark.slow
def test_kill_in_mid_search_ends_as_the_undisturbed_run(tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    for enough in (3, 17):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        while int(next(line for line in child.stdout if line.strip().isdigit())) < enough:
            pass
        time.sleep(0.03)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    stored = len(optuna.load_study(study_name="nas", storage=f"sqlite:///{path}").trials)
    assert 17 <= stored < 60
    evaluated: list[str] = []
    objectives = FIRST | {"cost": nas.minimize(lambda a: evaluated.append(a.id) or a["a"] * a["e"])}
    resumed = nas.search(SPACE, objectives, evaluations=60, storage=path)
    assert len(evaluated) == 60 - stored
    undisturbed = nas.search(SPACE, FIRST, evaluations=60)
    assert resumed.evaluations == undisturbed.evaluations
    assert resumed.trials().equals(undisturbed.trials())
