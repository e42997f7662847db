"""What a storage knows is never measured again, whatever is asked of it next."""

import pytest

import nas

SPACE = nas.GeneSpace({"width": [8, 16, 24, 32, 48, 64], "depth": [1, 2, 3, 4, 5, 6], "mixer": ["a", "b", "c"]})


class Stop(Exception):
    pass


def gain(a):
    return a["width"] * a["depth"] + 10 * (a["mixer"] == "b")


class Counting:
    """A costly objective that remembers what it was asked for, and stops after `most`."""

    def __init__(self, most=10**9):
        self.asked, self.most = [], most

    def __call__(self, a):
        if len(self.asked) == self.most:
            raise Stop
        self.asked.append(a)
        return gain(a)

    def all(self, architectures):
        return [self(a) for a in architectures]


def run(path, function, upper, *, key="gain of these weights", **changes):
    objectives = {
        "gain": nas.maximize(function, key=key),
        "cost": nas.minimize(lambda a: a["width"] + 3 * a["depth"]),
    }
    arguments = {"evaluations": 12, "storage": path, "name": f"below {upper}", "algorithm": "random"} | changes
    return nas.search(SPACE, objectives, constraints=[nas.Constraint("cost", upper=upper)], **arguments)


def test_another_budget_begins_with_all_that_is_known(tmp_path):
    path, first, second = tmp_path / "study.db", Counting(), Counting()
    before = run(path, first, 40)
    after = run(path, second, 30)
    assert len(before) == 12
    assert len(after) == 24
    assert after.architectures[:12] == before.architectures
    assert not set(first.asked) & set(second.asked)
    assert len(second.asked) == 12
    assert all(e.metrics["gain"] == gain(e.architecture) for e in after.evaluations)
    again = Counting()  # and a third in one batch
    objective = nas.maximize(again.all, batched=True, key="gain of these weights")
    study = nas.search(SPACE, {"gain": objective}, evaluations=10, storage=path, name="third", algorithm="random")
    assert len(study) == 34
    assert not set(again.asked) & {*first.asked, *second.asked}


def test_other_weights_know_nothing(tmp_path):
    path, first, second = tmp_path / "study.db", Counting(), Counting()
    run(path, first, 40)
    assert len(run(path, second, 30, key="gain of other weights")) == len(second.asked) == 12
    assert len(run(path, second, 20, key=None)) == 12


@pytest.mark.slow
def test_a_killed_search_ends_as_the_undisturbed_one(tmp_path):
    def undisturbed(folder):
        folder.mkdir()
        run(folder / "study.db", Counting(), 40)
        return folder / "study.db"

    whole, killed = undisturbed(tmp_path / "a"), undisturbed(tmp_path / "b")
    wanted = run(whole, Counting(), 30, algorithm="nsga2", evaluations=60)
    for most in (0, 3, 20):
        with pytest.raises(Stop):
            run(killed, Counting(most), 30, algorithm="nsga2", evaluations=60)
        run(killed, Counting(), 20 - most, evaluations=1)  # meanwhile another search learns more
    again = run(killed, Counting(), 30, algorithm="nsga2", evaluations=60)
    assert again.architectures == wanted.architectures


def test_a_space_that_is_wholly_known_asks_for_nothing(tmp_path):
    path = tmp_path / "study.db"
    run(path, Counting(), 40, evaluations=500)
    nothing = Counting()
    assert len(run(path, nothing, 30)) == SPACE.size
    assert not nothing.asked


def test_a_search_that_is_not_warm_finds_its_own_way_and_reads_what_is_known(tmp_path):
    path, second = tmp_path / "study.db", Counting()
    before = run(path, Counting(), 40)
    after = run(path, second, 30, warm=False, seed=0)
    assert after.architectures == before.architectures  # the same draws
    assert not second.asked
