"""The contract of a search algorithm: members of the space, none twice, pure, resumable, any number of objectives."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ..search.algorithms import Algorithm, load_algorithm
from ..search.evaluation import Evaluation
from ..search.objectives import maximize, minimize
from ..search.run import search
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from ..search_space.space import SearchSpace
from .suite import Checks, Suite, run_all

SUITE: Suite[Algorithm] = Suite()


def check_algorithm(algorithm: str | Algorithm) -> None:
    """Hold a search algorithm, or the one of that name, to its contract: every check, until one fails.

    Errors: AssertionError, with the name of the check and what it saw.

    >>> nas.testing.check_algorithm("random")
    """
    run_all(algorithm_checks(algorithm))


def algorithm_checks(algorithm: str | Algorithm) -> Checks:
    """The checks of an algorithm by name; each is a function without arguments that raises AssertionError.

    They search small spaces of at most a few hundred nets, with conditional genes and requirements.

    >>> @pytest.mark.parametrize("check", nas.testing.algorithm_checks("random").values())
    ... def test_random(check):
    ...     check()
    """
    return SUITE.of(load_algorithm(algorithm))


def conditional_space() -> GeneSpace:
    space = GeneSpace({"heads": [1, 2, 3, 4], "kv": [1, 2, 3, 4], "ffn": [1, 2, 4, 8], "norm": ["rms", "layer"]})
    space.require(lambda a: a["heads"] % a["kv"] == 0, "heads must be divisible by kv")  # type: ignore[operator]
    return space


def _cost(a: Any) -> float:
    return float(a["heads"] * 3 + a["ffn"] + a["kv"])


def _quality(a: Any) -> float:
    return float(a["heads"] * a["ffn"] ** 0.5 - (a["norm"] == "rms") * a["kv"])


OBJECTIVES = {"cost": minimize(_cost), "quality": maximize(_quality)}


@cache
def layered_space() -> SearchSpace:
    """Conditional genes: layers beyond the depth have none."""

    def function(trial: Any) -> torch.nn.Module:
        width, depth = trial.suggest_int("width", 1, 4), trial.suggest_int("depth", 1, 4)
        for i in range(depth):
            trial.suggest_int(f"layers.{i}.ffn", 1, 4)
            trial.suggest_categorical(f"layers.{i}.mixer", ["softmax", "linear", "conv"])
        return torch.nn.Linear(width, depth)

    return SearchSpace(function)


def size_of(a: Any) -> float:
    return float(a["width"] * sum(a[f"layers.{i}.ffn"] + 1 for i in range(a["depth"])))


def error_of(a: Any) -> float:
    """Falls with size, more slowly the larger; one mixer suits wide nets, another narrow ones."""
    fits = sum((a[f"layers.{i}.mixer"] == "linear") == (a["width"] > 2) for i in range(a["depth"]))
    return float(10 / (1 + size_of(a) ** 0.5 + fits))


def third(a: Any) -> float:
    return float(sum(a[f"layers.{i}.mixer"] != "conv" for i in range(a["depth"])) + 0.1 * a["width"])


LAYERED_OBJECTIVES = {"error": minimize(error_of), "size": minimize(size_of), "third": minimize(third)}


@SUITE.add()
def it_is_an_algorithm(algorithm: Algorithm) -> None:
    assert isinstance(algorithm, Algorithm), "it lacks name, batch or ask"
    assert algorithm.batch >= 1, f"its batch is {algorithm.batch}"


@SUITE.add()
def asks_only_for_members_and_never_twice_until_nothing_is_left(algorithm: Algorithm) -> None:
    space = conditional_space()
    study = search(space, OBJECTIVES, algorithm=algorithm, evaluations=10_000)
    assert len(study) == space.size, f"it asks for {len(study)} of {space.size} nets"
    assert len(set(study.architectures)) == len(study), "it asks for a net twice"
    assert all(a in space for a in study.architectures), "it asks for a net that is not in the space"


@SUITE.add()
def same_seed_same_search_and_another_seed_another(algorithm: Algorithm) -> None:
    def run(seed: int) -> Sequence[Evaluation]:
        return search(conditional_space(), OBJECTIVES, algorithm=algorithm, evaluations=30, seed=seed).evaluations

    before = np.random.get_state()  # noqa: NPY002  the global generator must not matter
    try:
        np.random.seed(1)  # noqa: NPY002
        first = run(0)
        np.random.seed(2)  # noqa: NPY002
        assert run(0) == first, "two searches with one seed differ: it draws from another generator than `rng`"
    finally:
        np.random.set_state(before)  # noqa: NPY002
    assert run(1) != first, "another seed gives the same search"


@SUITE.add()
def asking_is_pure(algorithm: Algorithm) -> None:
    space = conditional_space()
    study = search(space, OBJECTIVES, algorithm=algorithm, evaluations=45)  # beyond the first designs of all

    def ask() -> list[Architecture]:
        return algorithm.ask(space, study.evaluations, 7, np.random.default_rng(3))

    asked = ask()
    assert len(asked) == 7, f"of 7 nets it asks for {len(asked)}"
    assert ask() == asked, "asked again it answers otherwise: it remembers something between calls"
    assert not set(asked) & set(study.architectures), "it asks for what was evaluated"


@SUITE.add()
def survives_failures_and_infeasible_architectures(algorithm: Algorithm) -> None:
    space = conditional_space()
    drawn = [space.sample(seed) for seed in range(12)]
    failed = [Evaluation(a, {}, (float("nan"),), (), failed=True) for a in dict.fromkeys(drawn)]
    infeasible = [Evaluation(e.architecture, {}, (1.0,), (0.5,), failed=False) for e in failed]
    for history in (failed, infeasible, [*failed[:3], *infeasible[3:]]):
        asked = algorithm.ask(space, history, 5, np.random.default_rng(0))
        assert len(asked) == 5, f"after failed and infeasible nets it asks for {len(asked)} of 5"


@SUITE.add()
def a_stopped_search_goes_on_as_if_it_had_not_stopped(algorithm: Algorithm) -> None:
    with TemporaryDirectory() as folder:

        def run(evaluations: int, storage: Path | None = None) -> Sequence[Evaluation]:
            space = conditional_space()
            return search(space, OBJECTIVES, algorithm=algorithm, evaluations=evaluations, storage=storage).evaluations

        batch = algorithm.batch
        undisturbed = run(batch + 8)
        for n in sorted({max(1, batch - 3), batch, batch + 4, batch + 8}):  # within batches, and at the end of one
            assert run(n, Path(folder) / "parts.db") == undisturbed[:n], f"stopped and continued to {n} nets it differs"


@SUITE.add()
def any_number_of_objectives_over_conditional_genes(algorithm: Algorithm) -> None:
    space = layered_space()
    for count in (1, 3):
        objectives = dict(list(LAYERED_OBJECTIVES.items())[:count])
        study = search(space, objectives, algorithm=algorithm, evaluations=45)
        assert len(set(study.architectures)) == 45, f"with {count} objectives it gives {len(study)} nets, not 45"
        assert all(space.architecture(dict(a)) == a for a in study.architectures), "a net has genes that do not exist"


@SUITE.add()
def the_order_in_which_genes_are_written_does_not_matter(algorithm: Algorithm) -> None:
    study = search(layered_space(), LAYERED_OBJECTIVES, algorithm="random", evaluations=45)
    turned = [
        replace(e, architecture=Architecture(dict(reversed(list(e.architecture.items()))))) for e in study.evaluations
    ]
    asked = [algorithm.ask(layered_space(), e, 5, np.random.default_rng(1)) for e in (study.evaluations, turned)]
    assert asked[0] == asked[1], "it asks for other nets where genes are written in another order"


@SUITE.add()
def tiny_spaces_are_exhausted(algorithm: Algorithm) -> None:
    for options in ({"a": [1]}, {"a": [1, 2, 3]}, {"a": ["x", "y"], "b": [True, "1"]}):
        space = GeneSpace(options)  # type: ignore[arg-type]
        study = search(space, {"f": minimize(lambda a: len(str(a)))}, algorithm=algorithm, evaluations=50)
        asked = len(set(study.architectures))
        assert asked == space.size, f"of a space of {space.size} nets it asks for {asked}"
