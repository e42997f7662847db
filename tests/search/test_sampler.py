"""Our algorithms in plain Optuna studies, and Optuna's samplers in our searches."""

import numpy as np
import optuna
import pytest
from torch import nn

import nas
from nas.search.storage import quiet

WIDTHS = [16, 32, 64, 128]


def choices(trial):
    """Of a plain Optuna objective: a conditional gene, and numbers that are asked for as categories."""
    depth = trial.suggest_int("depth", 1, 5)
    width = trial.suggest_categorical("width", WIDTHS)
    return width, [trial.suggest_categorical(f"{i}.mixer", ["a", "b", "c"]) for i in range(depth)]


def net(trial):
    width, mixers = choices(trial)
    return nn.Sequential(*[nn.ModuleDict({mixer: nn.Linear(width, width)}) for mixer in mixers])


@pytest.fixture(scope="module")
def space():
    return nas.SearchSpace(net)


def losses(trial):
    width, mixers = choices(trial)
    trial.suggest_float("rate", 0.0, 1.0)  # none of the space's
    quality = len(mixers) ** 0.5 * (1 + np.log2(width / 8)) + sum(0.6 * (m == "b") for m in mixers)
    return -quality, width * len(mixers)


def study_of(sampler, objective=losses, trials=40):
    with quiet():
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        study.optimize(objective, n_trials=trials)
    return study


def reached(study):
    return nas.hypervolume([t.values for t in study.trials if t.values is not None], (0.0, 700.0))


def test_a_plain_study_is_searched_better_than_at_random(space):
    found = [reached(study_of(nas.Sampler(space, "nsga2", seed=seed))) for seed in range(3)]
    drawn = [reached(study_of(optuna.samplers.RandomSampler(seed=seed))) for seed in range(3)]
    assert np.median(found) > np.median(drawn)


def test_trials_are_members_of_the_space_and_none_is_tried_twice(space):
    trials = study_of(nas.Sampler(space, "random")).trials
    nets = [space.architecture({k: v for k, v in t.params.items() if k in space.genes}) for t in trials]
    assert len(set(nets)) == len(nets) == 40
    assert len({t.params["rate"] for t in trials}) == 40


def test_failed_and_running_trials_are_not_asked_for_again(space):
    def sometimes(trial):
        found = losses(trial)
        if trial.number % 3 == 0:
            raise optuna.TrialPruned
        return (float("nan"), 0.0) if trial.number % 3 == 1 else found

    assert len(study_of(nas.Sampler(space, "nsga2"), sometimes).trials) == 40
    with quiet():
        study = optuna.create_study(directions=["minimize"] * 2, sampler=nas.Sampler(space, "nsga2"))
        open_trials = [study.ask() for _ in range(6)]  # nothing is told
    assert len({str(choices(trial)) for trial in open_trials}) == 6


@pytest.mark.parametrize("name", ["RandomSampler", "NSGAIISampler", "QMCSampler"])
def test_any_sampler_of_optuna_searches_our_spaces(name):
    space = nas.GeneSpace({"width": [1, 2, 3, 4], "depth": [1, 2, 3], "mixer": ["a", "b"]})
    objectives = {"a": nas.minimize(lambda a: a["width"]), "b": nas.maximize(lambda a: a["depth"] * a["width"])}
    study = nas.search(space, objectives, algorithm=f"optuna:{name}", evaluations=15)
    assert len(set(study.architectures)) == 15


def test_an_unknown_sampler_is_one_sentence():
    with pytest.raises(nas.UserError, match="unknown sampler of Optuna 'TPE'; valid: TPESampler"):
        nas.search(nas.GeneSpace({"w": [1, 2]}), {"n": nas.minimize(len)}, algorithm="optuna:TPE")
