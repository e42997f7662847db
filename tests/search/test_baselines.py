"""Random search and uniform scaling see what the search sees, as often, and go on where they stopped."""

from pathlib import Path

import optuna
import pytest
from example_spaces import vit

import nas
from nas.search.baselines import compare_baselines, line

SPACE = nas.GeneSpace(
    {"width": [16, 32, 64], "ffn": [1, 4], "mixer": ["softmax", "pool"], "layers.1.ffn": [1, 2, 3, 4, 5]}
)


def test_the_line_moves_all_sizes_together_and_keeps_the_alternatives_of_the_largest() -> None:
    expected = [(16, 1, 1), (16, 1, 2), (32, 1, 2), (32, 1, 3), (32, 4, 3), (32, 4, 4), (64, 4, 4), (64, 4, 5)]
    found = [(a["width"], a["ffn"], a["layers.1.ffn"]) for a in line(SPACE)]
    assert found == expected
    assert {a["mixer"] for a in line(SPACE)} == {SPACE.largest["mixer"]}
    assert line(SPACE)[-1] == SPACE.largest


def test_depth_is_scaled_too() -> None:
    depths = [a["depth"] for a in line(nas.SearchSpace(vit))]
    assert depths == sorted(depths)
    assert set(depths) == {3, 4, 5, 6}


def test_switches_of_layers_go_on_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    space = nas.GeneSpace({f"layers.{i}.keep": [True, False] for i in range(3)} | {"width": [1, 2]})
    smallest = space.architecture({f"layers.{i}.keep": False for i in range(3)} | {"width": 1})
    monkeypatch.setattr(nas.GeneSpace, "smallest", smallest)
    found = [(tuple(a[f"layers.{i}.keep"] for i in range(3)), a["width"]) for a in line(space)]
    assert found == [
        ((False, False, False), 1),
        ((True, False, False), 1),
        ((True, True, False), 2),
        ((True, True, True), 2),
    ]


def test_requirements_hold_on_the_line() -> None:
    space = nas.GeneSpace({"width": [16, 32, 64], "ffn": [1, 4]})
    space.require(lambda a: a["width"] != 32, "not 32")
    assert {a["width"] for a in line(space)} == {16, 64}


def test_budgets_are_equal_and_the_studies_resume(tmp_path: Path) -> None:
    calls: list[str] = []
    objectives = {
        "gain": nas.maximize(lambda a: calls.append(a.id) or a["width"] * a["ffn"]),
        "latency_ms": nas.minimize(lambda a: a["width"] + a["ffn"]),
    }
    limits = [nas.Constraint("latency_ms", upper=40)]
    storage = tmp_path / "s.db"
    study = nas.search(SPACE, objectives, constraints=limits, evaluations=12, storage=storage)
    told: list[int] = []
    found = compare_baselines(study, storage=storage, progress=lambda _, total, __: told.append(total))
    assert {name: len(s) for name, s in found.items()} == {"random search": 12, "uniform scaling": 8}
    assert set(told) == {12}
    assert all(s.problem == study.problem for s in found.values())
    assert sum(not e.feasible for e in found["uniform scaling"].evaluations) == 2
    evaluated = len(calls)
    again = compare_baselines(study, storage=storage)
    assert len(calls) == evaluated
    assert {n: s.evaluations for n, s in again.items()} == {n: s.evaluations for n, s in found.items()}
    names = optuna.get_all_study_names(f"sqlite:///{storage}")
    assert sorted(names) == ["nas", "nas, random search", "nas, uniform scaling"]


def test_the_seed_is_that_of_random_search() -> None:
    study = nas.search(SPACE, {"v": nas.maximize(lambda a: a["width"])}, evaluations=8)
    first, second, third = (compare_baselines(study, seed=s)["random search"].architectures for s in (0, 0, 1))
    assert first == second != third
