"""Study files: any path is that path, what is no study is one sentence, and what has changed is not believed."""

import sqlite3
from contextlib import closing

import numpy as np
import optuna
import pytest

import nas
from nas.search import database as database_module
from nas.search.recheck import recheck

SPACE = nas.GeneSpace({"width": [8, 16, 24, 32, 48, 64], "depth": [1, 2, 3, 4, 5, 6], "mixer": ["a", "b", "c"]})


def gain(a):
    return a["width"] * a["depth"] + 10 * (a["mixer"] == "b")


def search(path, gain=gain, **changes):
    objectives = {"gain": nas.maximize(gain), "cost": nas.minimize(lambda a: a["width"] + 3 * a["depth"])}
    return nas.search(SPACE, objectives, **({"evaluations": 12, "storage": path, "algorithm": "random"} | changes))


def told(study):
    return [(e.architecture, dict(e.metrics)) for e in study.evaluations]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "study.db"
    return path, told(search(path))


@pytest.fixture
def copy(tmp_path, stored):
    path = tmp_path / "study.db"
    path.write_bytes(stored[0].read_bytes())
    return path


@pytest.mark.parametrize("name", ["what?v1#[x]", "x%20y {b}=+&ü"])
def test_every_path_is_that_path(tmp_path, name):
    study = search(tmp_path / name / "study.db", evaluations=3)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == [f"{name}/study.db"]
    assert told(search(tmp_path / name / "study.db", gain=lambda _: 0, evaluations=3)) == told(study)  # all is read


def test_what_is_no_study_is_one_sentence(tmp_path, copy, monkeypatch):
    monkeypatch.setattr(database_module, "WAIT", 0.1)
    (tmp_path / "folder").mkdir()
    (tmp_path / "words").write_text("these are no tables" * 100)
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE books (title)")
    for name, said in [
        ("folder", "is not a file"),
        ("words", "file is not a database"),
        ("other", "a database of another program"),
    ]:
        with pytest.raises(nas.UserError, match=f"{name} .*{said}"):
            search(tmp_path / name)
    with closing(sqlite3.connect(copy)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(nas.UserError, match="database is locked; try again"):
            search(copy)
        database.rollback()
        database.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
        database.commit()
    with pytest.raises(nas.UserError, match="another version of Optuna"):
        search(copy)


def test_a_changed_value_is_evaluated_again(copy, stored):
    with closing(sqlite3.connect(copy)) as database:
        database.execute("UPDATE trial_values SET value = 99999 WHERE trial_id = 3 AND objective = 0")
        database.commit()
    asked = []
    study = search(copy, gain=lambda a: asked.append(a) or gain(a))
    assert told(study) == stored[1]
    assert study.dropped == len(asked) == 1
    again = search(copy, evaluations=20)
    assert told(again) == told(search(None, evaluations=20))
    assert again.dropped == 0


def test_a_trial_that_another_program_added_is_evaluated_again(copy, stored):
    with closing(sqlite3.connect(copy)) as database:
        database.execute("DELETE FROM trial_user_attributes WHERE key = 'checksum' AND trial_id = 5")
        database.commit()
    study = search(copy)
    assert (told(study), study.dropped) == (stored[1], 1)


def test_flipped_bits_change_no_result(copy, stored):
    rng, whole, found = np.random.default_rng(0), copy.read_bytes(), 0
    for at in rng.choice(len(whole), 12, replace=False):
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        copy.write_bytes(bytes(content))
        try:
            assert told(search(copy)) == stored[1]
        except nas.UserError:
            found += 1
    assert found > 0


def test_the_front_of_a_storage_is_evaluated_again(tmp_path):
    path, lie = tmp_path / "study.db", []

    def false(a):
        lie.append(a)
        return 99999 if len(lie) == 3 else gain(a)

    search(path, gain=false)
    study, true = search(path), search(None)
    together = nas.maximize(lambda nets: map(gain, nets), batched=True)
    objectives = {"gain": together, "cost": nas.minimize(lambda a: a["width"] + 3 * a["depth"])}
    assert study.best()["gain"] == 99999
    assert recheck(study, objectives) == 1
    assert study.front().equals(true.front())
    assert recheck(true, objectives) == 0


def test_a_trial_has_the_rows_that_optuna_gives_it(tmp_path):
    path, plain = tmp_path / "study.db", tmp_path / "plain.db"
    search(path, gain=lambda a: gain(a) if a["mixer"] != "c" else float("nan"))
    ours = optuna.load_study(study_name="nas", storage=f"sqlite:///{path}")
    optuna.create_study(storage=f"sqlite:///{plain}", directions=ours.directions).add_trials(ours.get_trials())
    assert {trial.state.name for trial in ours.get_trials()} == {"COMPLETE", "FAIL"}

    def rows(file, table):
        with closing(sqlite3.connect(file)) as database:
            found = database.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in found.description]
            kept = [i for i, name in enumerate(names) if name == "trial_id" or not name.endswith("_id")]
            return sorted([row[i] for i in kept] for row in found)

    kinds = ("values", "params", "user_attributes", "system_attributes")
    for table in ("trials", *(f"trial_{kind}" for kind in kinds)):
        assert rows(path, table) == rows(plain, table)
