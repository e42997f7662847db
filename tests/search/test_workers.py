"""Searches by Ray: the same as in one process, whatever dies. Functions are nested: workers cannot import tests."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

import nas
from nas.search import workers
from nas.search.evaluation import Asked
from nas.search.storage import open_store
from nas.supernet import cluster

search = partial(nas.search, algorithm="nsga2")  # batches of 10

SPACE = nas.GeneSpace({"a": [1, 2, 3, 4], "b": ["x", "y"], "c": [0.1, 0.2, 0.5], "d": [True, False], "e": [8, 16, 64]})
COST = nas.minimize(lambda a: a["a"] * a["e"])
FIRST = {"cost": COST, "gain": nas.maximize(lambda a: a["a"] + 10 * a["c"])}


@pytest.fixture(scope="module")
def connected() -> Iterator[None]:
    """Ray with two workers, started once; searches use it and leave it as it is."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


def noted(path: Path, *, dies: bool = False, raises: bool = False) -> Callable[[nas.Architecture], float]:
    """An objective that writes down what it evaluated. At the first net with a = 3 its worker dies, or it raises."""

    def gain(a: nas.Architecture) -> float:
        if a["a"] == 3 and not path.with_suffix(".hit").exists():
            path.with_suffix(".hit").touch()
            if dies:
                os._exit(1)
            if raises:
                raise LookupError("no such kernel")
        with path.open("a") as file:
            file.write(a.id + "\n")
        return a["a"] + 10 * a["c"]

    return gain


def counts(path: Path) -> Counter[str]:
    return Counter(path.read_text().split())


@pytest.mark.usefixtures("connected")
def test_workers_give_the_search_of_one_process(tmp_path: Path) -> None:
    def costs(architectures: list) -> Iterator[int]:
        for a in architectures:
            yield a["a"] * a["e"]

    told: list[int] = []
    alone = search(SPACE, FIRST, evaluations=35)
    study = search(
        SPACE,
        FIRST | {"cost": nas.minimize(costs, batched=True)},
        evaluations=35,
        storage=tmp_path / "s.db",
        workers=2,
        progress=lambda done, *_: told.append(done),
    )
    assert study.evaluations == alone.evaluations
    assert study.front().equals(alone.front())
    assert told == list(range(1, 36))
    finished = [(t.user_attrs["asked_after"], t.user_attrs["place"]) for t in study.optuna.trials]
    assert sorted(finished) == [(i - i % 10, i % 10) for i in range(35)]
    assert search(SPACE, FIRST, evaluations=45, storage=tmp_path / "s.db").evaluations[:35] == alone.evaluations
    with pytest.raises(nas.UserError, match="'v' returned 'big' for architecture"):
        search(SPACE, {"v": nas.minimize(lambda _: "big")}, evaluations=1, workers=2)
    with pytest.raises(ZeroDivisionError, match=r"^division by zero$"):
        search(SPACE, {"v": nas.minimize(lambda _: 1 / 0)}, evaluations=1, workers=2)


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_dead_worker_costs_no_finished_evaluation(tmp_path: Path) -> None:
    gain = nas.maximize(noted(tmp_path / "log", dies=True))
    study = search(SPACE, {"cost": COST, "gain": gain}, evaluations=35, workers=2)
    assert (tmp_path / "log.hit").exists()
    assert study.evaluations == search(SPACE, FIRST, evaluations=35).evaluations
    assert counts(tmp_path / "log") == Counter(a.id for a in study.architectures)


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_an_error_surfaces_as_it_was_raised_and_is_not_retried(tmp_path: Path) -> None:
    def run() -> nas.Study:
        gain = nas.maximize(noted(tmp_path / "log", raises=True))
        return search(SPACE, {"cost": COST, "gain": gain}, evaluations=35, workers=2, storage=tmp_path / "s.db")

    with pytest.raises(LookupError, match=r"^no such kernel$"):
        run()
    assert len(counts(tmp_path / "log")) < 35
    assert run().evaluations == search(SPACE, FIRST, evaluations=35).evaluations


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_an_evaluation_that_always_kills_its_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "RETRIES", 1)
    with pytest.raises(nas.UserError, match=r"the evaluation of architecture \w+ ended its worker 2 times"):
        search(SPACE, {"v": nas.minimize(lambda _: os._exit(1))}, evaluations=1, workers=2)


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_weights_and_data_are_shared_and_other_tensors_are_copied() -> None:
    space = nas.SearchSpace(lambda trial: torch.nn.Linear(64, trial.suggest_int("out", 16, 512, step=16)))
    supernet, task, own = nas.Supernet(space), nas.load_task("digits"), torch.zeros(64)

    def shares(_: nas.Architecture) -> int:
        """A bit for each tensor that lies in Ray's store, which is mapped into every process."""
        maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/plasma" in line]
        stores = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
        tensors = [supernet.store.weight, task.validation.raw, own]
        own.add_(1)
        return sum(any(lo <= t.data_ptr() < hi for lo, hi in stores) << i for i, t in enumerate(tensors))

    def output(a: nas.Architecture) -> float:
        inputs = task.validation.inputs[:4].flatten(1)
        return float(supernet(inputs, a).sum().detach())

    found = {"shares": nas.maximize(shares), "output": nas.maximize(output)}
    study = search(space, found, evaluations=6, workers=2)
    assert study.trials()["shares"].tolist() == [0b011] * 6
    assert study.trials()["output"].tolist() == [output(a) for a in study.architectures]
    assert own.sum() == 0


def test_half_a_batch_in_any_order_resumes_as_the_same_batch(tmp_path: Path) -> None:
    whole = search(SPACE, FIRST, evaluations=40)
    empty = search(SPACE, FIRST, evaluations=1, storage=tmp_path / "half.db")
    store = open_store(tmp_path / "half.db", "nas", SPACE, whole.problem, {})
    order = [*range(9, 0, -1), *range(10, 20), 27, 20, 23]  # the first batch backwards, the third with gaps
    for i in order:
        store.add(whole.evaluations[i], Asked(i - i % 10, i % 10))
    asked: list[str] = []
    counted = nas.minimize(lambda a: asked.append(a.id) or a["a"] * a["e"])
    resumed = search(SPACE, FIRST | {"cost": counted}, evaluations=40, storage=tmp_path / "half.db")
    assert resumed.evaluations == whole.evaluations
    assert asked == [whole.architectures[i].id for i in (21, 22, 24, 25, 26, 28, 29, *range(30, 40))]
    assert len(empty) == 1


def test_wrong_workers_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(nas.UserError, match=r"workers must be at most \d+ on this machine, .*, got 1000000"):
        search(SPACE, FIRST, workers=10**6)
    with pytest.raises(nas.UserError, match="workers must be at least 1, got 0"):
        search(SPACE, FIRST, workers=0)
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(nas.UserError, match=r'not installed; install it: pip install "nas\[ray\]"'):
        search(SPACE, FIRST, workers=2, storage=tmp_path / "s.db")
    assert not list(tmp_path.iterdir())


def test_nets_are_divided_in_about_equal_pieces() -> None:
    nets = dict(enumerate([nas.Architecture({"a": a, "b": b}) for b in range(3) for a in range(2)]))
    assert workers.divided(nets, 2) == [[0, 1, 2], [3, 4, 5]]
    assert workers.divided(nets, 9) == [[0], [1], [2], [3], [4], [5]]
    assert workers.divided({}, 2) == []
