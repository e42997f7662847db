import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.search.storage import distribution
from nas.search_space.trial import make_gene

SPACE = nas.GeneSpace(
    {"width": [32, 48, 64], "depth": [1, 2, 3, 4], "ffn": [8, 32, 128], "mixer": ["softmax", None, True]}
)


def cost(a: nas.Architecture) -> float:
    return a["width"] * a["depth"] * (1 + a["ffn"] / 100)


def gain(a: nas.Architecture) -> float:
    return 10 * a["depth"] ** 0.5 + a["ffn"] ** 0.3 - (a["mixer"] is None)


def run(**changes) -> nas.Study:
    arguments = {"objectives": {"gain": nas.maximize(gain), "cost": nas.minimize(cost)}, "evaluations": 40}
    return nas.search(SPACE, **(arguments | changes))


@pytest.fixture(scope="module")
def study() -> nas.Study:
    return run(constraints=[nas.Constraint("cost", upper=300), nas.Constraint("odd", lower=0, function=len)])


def test_trials_have_one_row_per_architecture_and_one_column_per_thing(study: nas.Study) -> None:
    rows = study.trials()
    assert list(rows) == ["number", "id", *SPACE.genes, "gain", "cost", "odd", "feasible"]
    assert rows["number"].tolist() == list(range(40))
    assert rows["id"].is_unique
    for _, row in rows.iterrows():
        architecture = study.architecture(row)
        assert architecture == {name: row[name] for name in SPACE.genes}
        assert row["gain"] == gain(architecture)


def test_genes_that_do_not_exist_are_none() -> None:
    def net(trial):
        from torch import nn

        depth = trial.suggest_int("depth", 1, 3)
        return nn.Sequential(*[nn.Linear(2, trial.suggest_int(f"{i}.out", 2, 2)) for i in range(depth)])

    space = nas.SearchSpace(net)
    study = nas.search(space, {"n": nas.maximize(lambda a: a["depth"])})
    for _, row in study.trials().iterrows():
        assert [row[f"{i}.out"] for i in range(3)] == [2] * row["depth"] + [None] * (3 - row["depth"])


def test_front_is_feasible_not_dominated_and_sorted_best_first(study: nas.Study) -> None:
    rows, front = study.trials(), study.front()
    assert front["gain"].is_monotonic_decreasing
    assert front["cost"].is_monotonic_decreasing
    assert front["feasible"].all()
    feasible = rows[rows["feasible"]]
    for _, row in feasible.iterrows():
        better = (feasible["gain"] >= row["gain"]) & (feasible["cost"] <= row["cost"])
        strictly = (feasible["gain"] > row["gain"]) | (feasible["cost"] < row["cost"])
        assert (row["id"] in set(front["id"])) == (not (better & strictly).any())


def test_best_and_knee(study: nas.Study) -> None:
    feasible = study.trials().query("feasible")
    assert study.best()["gain"] == feasible["gain"].max()
    assert study.best("cost")["cost"] == feasible["cost"].min()
    assert study.knee()["id"] in set(study.front()["id"])
    with pytest.raises(nas.UserError, match="unknown objective 'cots'; valid: cost"):
        study.best("cots")


def test_architecture_by_id(study: nas.Study) -> None:
    last = study.architectures[-1]
    assert study.architecture(last.id) is last
    with pytest.raises(nas.UserError, match="unknown architecture"):
        study.architecture("0000000000")


def test_hypervolume_in_the_signs_of_the_objectives() -> None:
    study = nas.search(
        nas.GeneSpace({"a": [1, 2]}),
        {"up": nas.maximize(lambda a: a["a"]), "down": nas.minimize(lambda a: a["a"])},
    )
    assert study.hypervolume([0, 3]) == pytest.approx(3.0)  # steps of 1x2 and 1x1
    assert study.hypervolume({"down": 3, "up": 0}) == pytest.approx(3.0)
    assert study.hypervolume() == pytest.approx(1.1 * 0.1 + 1.0 * 0.1)
    for wrong in ([1], [1, 2, 3], {"up": 1}, [1, float("nan")]):
        with pytest.raises(nas.UserError, match="one finite value per objective: up, down"):
            study.hypervolume(wrong)


def test_csv_reads_back(study: nas.Study, tmp_path: Path) -> None:
    rows = pd.read_csv(study.csv(tmp_path / "front.csv"))
    assert rows["id"].tolist() == study.trials()["id"].tolist()
    assert np.allclose(rows["gain"], study.trials()["gain"])


# Storage


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "s.db"
    run(storage=path, evaluations=5)
    return path


@pytest.fixture
def stored(tmp_path: Path, kept: Path) -> Path:
    """A study of five evaluations, of this test alone."""
    return Path(shutil.copy(kept, tmp_path))


def test_a_stored_study_opens_in_optuna(tmp_path: Path) -> None:
    study = run(storage=tmp_path / "s.db", constraints=[nas.Constraint("cost", upper=300)], name="mine", evaluations=20)
    stored = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path / 's.db'}")
    assert [d.name for d in stored.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert stored.metric_names == ["gain", "cost"]
    assert [t.params for t in stored.trials] == study.architectures
    assert [t.values for t in stored.trials] == study.trials()[["gain", "cost"]].to_numpy().tolist()
    assert {t.user_attrs["architecture"] for t in stored.best_trials} == set(study.front()["id"])
    assert [d.user_attrs for d in study.optuna.trials] == [d.user_attrs for d in stored.trials]


def test_the_same_call_evaluates_nothing_again(tmp_path: Path) -> None:
    first = run(storage=tmp_path / "s.db", evaluations=12)
    unused = {"gain": nas.maximize(lambda _: 1 / 0), "cost": nas.minimize(lambda _: 1 / 0)}
    for storage in (str(tmp_path / "s.db"), f"sqlite:///{tmp_path / 's.db'}"):
        assert run(storage=storage, objectives=unused, evaluations=12).evaluations == first.evaluations


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seed": 1}, "seed"),
        ({"algorithm": "random"}, "algorithm"),
        ({"constraints": [nas.Constraint("cost", upper=9)]}, "constraints"),
        ({"objectives": {"gain": nas.maximize(gain), "price": nas.minimize(cost)}}, "objectives"),
        ({"objectives": {"gain": nas.maximize(gain), "cost": nas.maximize(cost)}}, "objectives"),
        ({"space": nas.GeneSpace({"depth": [1, 2], "ffn": [8], "width": [32], "mixer": [None]})}, "space"),
    ],
)
def test_another_search_is_refused(stored: Path, changes: dict, what: str) -> None:
    arguments = {"objectives": {"gain": nas.maximize(gain), "cost": nas.minimize(cost)}} | changes
    with pytest.raises(nas.UserError, match=f"'nas' in .*s.db was made with another {what}; repeat"):
        nas.search(arguments.pop("space", SPACE), **arguments, evaluations=5, storage=stored)
    run(storage=stored, evaluations=5)  # and the old one is unharmed
    if what == "seed":
        assert len(run(storage=stored, name="other", evaluations=5, seed=1)) == 5


def test_a_study_with_estimates_of_an_older_version_is_refused(stored: Path) -> None:
    study = run(storage=stored, evaluations=5).optuna
    study.set_user_attr("nas", {**study.user_attrs["nas"], "fidelities": {"gain": [0.5, 1]}})
    with pytest.raises(nas.UserError, match=r"'nas' in .*s.db was made by an older version .*; choose another"):
        run(storage=stored, evaluations=5)


def test_a_foreign_optuna_study_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    optuna.create_study(study_name="nas", storage=url, directions=["maximize", "minimize"]).add_trial(
        optuna.trial.create_trial(values=[0.0, 0.0])
    )
    with pytest.raises(nas.UserError, match="was not made by this search"):
        run(storage=url)


def test_optuna_is_quiet_and_left_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    level = logging.getLogger("optuna").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(storage=tmp_path / "s.db", evaluations=3)
    assert capfd.readouterr().err == ""
    assert logging.getLogger("optuna").level == level


numbers = st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True)
floats = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6, unique_by=repr)
words = st.lists(st.one_of(st.text(max_size=5), st.none(), st.booleans()), min_size=1, max_size=6, unique_by=repr)


@settings(max_examples=40)
@given(st.one_of(numbers, floats, words, st.just(list(range(16, 257, 16)))))
def test_every_option_is_stored_exactly(options: list) -> None:
    gene = make_gene("g", options)
    how = distribution(gene)
    for option in gene.options:
        back = how.to_external_repr(how.to_internal_repr(option))
        assert (back, type(back)) == (option, type(option))
