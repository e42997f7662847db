"""The contract of every registered algorithm. A new file in search/algorithms is tested by being there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nas
from nas.errors import UserError
from nas.search.algorithms import Algorithm, algorithms, load_algorithm
from nas.search.evaluation import Evaluation

NAMES = [*algorithms(), "optuna:TPESampler"]
EVERY = pytest.mark.parametrize("name", NAMES)


def test_the_registry_has_the_baseline_and_names_the_nearest() -> None:
    assert {"nsga2", "random"} <= set(algorithms())
    with pytest.raises(UserError, match="valid: nsga2"):
        load_algorithm("nsga")


def conditional_space() -> nas.GeneSpace:
    space = nas.GeneSpace({"heads": [1, 2, 3, 4], "kv": [1, 2, 3, 4], "ffn": [1, 2, 4, 8], "norm": ["rms", "layer"]})
    space.require(lambda a: a["heads"] % a["kv"] == 0, "heads must be divisible by kv")
    return space


def cost(a: nas.Architecture) -> float:
    return a["heads"] * 3 + a["ffn"] + a["kv"]


def quality(a: nas.Architecture) -> float:
    return a["heads"] * a["ffn"] ** 0.5 - (a["norm"] == "rms") * a["kv"]


OBJECTIVES = {"cost": nas.minimize(cost), "quality": nas.maximize(quality)}


@EVERY
def test_asks_only_for_members_and_never_twice_until_nothing_is_left(name: str) -> None:
    space = conditional_space()
    study = nas.search(space, OBJECTIVES, algorithm=name, evaluations=10_000)
    assert len(study) == space.size == len(set(study.architectures))
    assert all(a in space for a in study.architectures)


@EVERY
def test_same_seed_same_search_and_another_seed_another(name: str) -> None:
    def run(seed: int) -> list:
        return nas.search(conditional_space(), OBJECTIVES, algorithm=name, evaluations=30, seed=seed).evaluations

    np.random.seed(1)  # noqa: NPY002  the global generator must not matter
    first = run(0)
    np.random.seed(2)  # noqa: NPY002
    assert run(0) == first
    assert run(1) != first


@EVERY
def test_asking_is_pure(name: str) -> None:
    algorithm, space = load_algorithm(name), conditional_space()
    assert isinstance(algorithm, Algorithm)
    study = nas.search(space, OBJECTIVES, algorithm=name, evaluations=45)  # beyond the first designs of all

    def ask() -> list:
        return algorithm.ask(space, study.evaluations, 7, np.random.default_rng(3))

    asked = ask()
    assert len(asked) == 7
    assert ask() == asked
    assert not set(asked) & set(study.architectures)


@EVERY
def test_survives_failures_and_infeasible_architectures(name: str) -> None:
    space = conditional_space()
    drawn = [space.sample(seed) for seed in range(12)]
    failed = [Evaluation(a, {}, (float("nan"),), (), failed=True) for a in dict.fromkeys(drawn)]
    infeasible = [Evaluation(e.architecture, {}, (1.0,), (0.5,), failed=False) for e in failed]
    for history in (failed, infeasible, [*failed[:3], *infeasible[3:]]):
        assert len(load_algorithm(name).ask(space, history, 5, np.random.default_rng(0))) == 5


@EVERY
def test_a_stopped_search_goes_on_as_if_it_had_not_stopped(name: str, tmp_path) -> None:
    def run(evaluations: int, storage: Path | None = None) -> list:
        space = conditional_space()
        return nas.search(space, OBJECTIVES, algorithm=name, evaluations=evaluations, storage=storage).evaluations

    batch = load_algorithm(name).batch
    undisturbed = run(batch + 8)
    for evaluations in sorted((batch - 3, batch, batch + 4, batch + 8)):  # within batches, and at the end of one
        assert run(evaluations, tmp_path / "parts.db") == undisturbed[:evaluations]


def layered_space() -> nas.GeneSpace:
    """Conditional genes: layers beyond the depth have none."""

    def function(trial):
        width, depth = trial.suggest_int("width", 1, 4), trial.suggest_int("depth", 1, 4)
        for i in range(depth):
            trial.suggest_int(f"layers.{i}.ffn", 1, 4)
            trial.suggest_categorical(f"layers.{i}.mixer", ["softmax", "linear", "conv"])
        return torch.nn.Linear(width, depth)

    return nas.SearchSpace(function)


LAYERED = layered_space()


def size_of(a: nas.Architecture) -> float:
    return a["width"] * sum(a[f"layers.{i}.ffn"] + 1 for i in range(a["depth"]))


def error_of(a: nas.Architecture) -> float:
    """Falls with size, more slowly the larger; one mixer suits wide nets, another narrow ones."""
    fits = sum((a[f"layers.{i}.mixer"] == "linear") == (a["width"] > 2) for i in range(a["depth"]))
    return 10 / (1 + size_of(a) ** 0.5 + fits)


def third(a: nas.Architecture) -> float:
    return sum(a[f"layers.{i}.mixer"] != "conv" for i in range(a["depth"])) + 0.1 * a["width"]


LAYERED_OBJECTIVES = {"error": nas.minimize(error_of), "size": nas.minimize(size_of), "third": nas.minimize(third)}


@EVERY
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_objectives_over_conditional_genes(name: str, count: int) -> None:
    objectives = dict(list(LAYERED_OBJECTIVES.items())[:count])
    study = nas.search(LAYERED, objectives, algorithm=name, evaluations=45)
    assert len(set(study.architectures)) == 45
    assert all(LAYERED.architecture(dict(a)) == a for a in study.architectures)  # canonical


@pytest.mark.parametrize("name", [n for n in NAMES if n != "linas"])
def test_the_order_in_which_genes_are_written_does_not_matter(name: str) -> None:
    study = nas.search(LAYERED, LAYERED_OBJECTIVES, algorithm="random", evaluations=45)
    turned = [
        replace(e, architecture=nas.Architecture(dict(reversed(list(e.architecture.items())))))
        for e in study.evaluations
    ]
    algorithm = load_algorithm(name)
    asked = [algorithm.ask(LAYERED, known, 5, np.random.default_rng(1)) for known in (study.evaluations, turned)]
    assert asked[0] == asked[1]


@EVERY
@pytest.mark.parametrize("options", [{"a": [1]}, {"a": [1, 2, 3]}, {"a": ["x", "y"], "b": [True, "1"]}])
def test_tiny_spaces_are_exhausted(name: str, options: dict) -> None:
    space = nas.GeneSpace(options)
    study = nas.search(space, {"f": nas.minimize(lambda a: len(str(a)))}, algorithm=name, evaluations=50)
    assert len(set(study.architectures)) == space.size


def test_a_space_that_runs_its_function_for_every_net() -> None:
    """Which genes exist follows no rule that could be learnt."""

    def function(trial):
        a, b = trial.suggest_int("a", 0, 5), trial.suggest_int("b", 0, 5)
        if (a + b) % 2:
            trial.suggest_categorical("c", ["x", "y", "z"])
        return torch.nn.Linear(a + 1, b + 1)

    space = nas.SearchSpace(function)
    assert space.walk_is_slow
    objectives = {"f": nas.minimize(lambda a: a["a"] + (a.get("c") == "x")), "g": nas.minimize(lambda a: -a["b"])}
    study = nas.search(space, objectives, algorithm="guided", evaluations=70)
    assert len(set(study.architectures)) == 70
    assert all(a in space for a in study.architectures)


@pytest.mark.parametrize("name", ["guided", "nsga2"])
def test_bounds_lead_the_search(name: str) -> None:
    """One in 20 random nets keeps both bounds; most of what is asked for must in the end."""
    bounds = [nas.Constraint("size", upper=20), nas.Constraint("error", upper=1.4)]
    study = nas.search(LAYERED, LAYERED_OBJECTIVES, constraints=bounds, algorithm=name, evaluations=100)
    kept = [e.feasible for e in study.evaluations]
    random = nas.search(LAYERED, LAYERED_OBJECTIVES, constraints=bounds, algorithm="random", evaluations=100)
    assert sum(kept[50:]) > 3 * sum(e.feasible for e in random.evaluations[50:])


SLOW = {"optuna:TPESampler": pytest.mark.slow, "linas": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW.get(n, ())) for n in NAMES if n != "random"])
def test_beats_random_on_a_known_problem(name: str, known) -> None:
    """Median over the seeds at equal budget."""

    def share(algorithm: str, seed: int) -> float:
        return known.share(nas.search(known.space, known.objectives, algorithm=algorithm, evaluations=100, seed=seed))

    seeds = range(3)
    assert np.median([share(name, s) for s in seeds]) > np.median([share("random", s) for s in seeds])


def test_auto_is_a_registered_algorithm() -> None:
    assert load_algorithm("auto") is load_algorithm("guided")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["guided", "nsga2"])
def test_beats_random_and_finds_the_known_front(name: str, known) -> None:
    def share(algorithm: str, seed: int) -> float:
        return known.share(nas.search(known.space, known.objectives, algorithm=algorithm, evaluations=200, seed=seed))

    ours = [share(name, seed) for seed in range(5)]
    baseline = [share("random", seed) for seed in range(5)]
    assert all(a > b for a, b in zip(ours, baseline, strict=True)), (ours, baseline)
    assert min(ours) >= 0.98, ours


@pytest.mark.parametrize("name", ["GridSampler", "PartialFixedSampler", "BaseSampler", "NoSampler"])
def test_samplers_of_optuna_that_want_more_than_a_seed_are_refused(name):
    with pytest.raises(nas.UserError, match=f"unknown sampler of Optuna '{name}'; valid: .*TPESampler"):
        load_algorithm(f"optuna:{name}")


def weakest_link(seed):
    """A net is as good as the weakest of its groups of genes; costs add up."""
    rng = np.random.default_rng(seed)
    names = [f"groups.{i}.size{j}" for i in range(6) for j in range(5)]
    gain, price = rng.gamma(2.0, 1.0, (6, 5)), rng.gamma(2.0, 1.0, (6, 5))

    def sizes(a):
        return np.array([a[name] for name in names]).reshape(6, 5) / 4

    objectives = {
        "loss": nas.minimize(lambda a: 1 - ((gain * sizes(a)).sum(1) / gain.sum(1)).min()),
        "cost": nas.minimize(lambda a: (price * sizes(a) ** 1.3).sum() / price.sum()),
    }
    return nas.GeneSpace({name: list(range(5)) for name in names}), objectives


@pytest.mark.parametrize("algorithm", ["nsga2", "guided"])
def test_a_search_starts_well_where_a_net_is_as_good_as_its_weakest_part(algorithm):
    found = []
    for seed in range(3):
        space, objectives = weakest_link(seed)
        study = nas.search(space, objectives, algorithm=algorithm, evaluations=100, seed=seed)
        found.append(study.hypervolume([1.1, 1.1]))
    assert np.median(found) > 0.64  # from random nets 0.59; from nets spread between the corners 0.66 and more
