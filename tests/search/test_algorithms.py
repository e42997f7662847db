"""The contract of every registered algorithm. A new file in search/algorithms is tested by being there."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import nas
from nas.errors import UserError
from nas.search.algorithms import algorithms, load_algorithm
from nas.testing import algorithm_checks
from nas.testing.algorithms import LAYERED_OBJECTIVES, layered_space

NAMES = [*algorithms(), "optuna:TPESampler"]
UNFIT = {("linas", "the_order_in_which_genes_are_written_does_not_matter")}
"""LINAS searches on a model whose columns are in the order of the first net's genes."""
CHECKS = [
    pytest.param(check, id=f"{name}-{about}")
    for name in NAMES
    for about, check in algorithm_checks(name).items()
    if (name, about) not in UNFIT
]


def test_the_registry_has_the_baseline_and_names_the_nearest() -> None:
    assert {"nsga2", "random"} <= set(algorithms())
    with pytest.raises(UserError, match="valid: nsga2"):
        load_algorithm("nsga")


@pytest.mark.parametrize("check", CHECKS)
def test_algorithms_keep_the_contract(check: Callable[[], None]) -> None:
    check()


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
    study = nas.search(layered_space(), LAYERED_OBJECTIVES, constraints=bounds, algorithm=name, evaluations=100)
    kept = [e.feasible for e in study.evaluations]
    random = nas.search(layered_space(), LAYERED_OBJECTIVES, constraints=bounds, algorithm="random", evaluations=100)
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
