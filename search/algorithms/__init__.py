"""Search algorithms, one a file. A file that defines `ALGORITHM` here is found by itself and tested by the contract."""

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np

from ...errors import unknown
from ...search_space.architecture import Architecture
from ...search_space.gene_space import GeneSpace
from ..evaluation import Evaluation

AUTO = "guided"
"""What `auto` stands for: the best on every problem of `scripts/bench_search.py`."""


@runtime_checkable
class Algorithm(Protocol):
    """What to evaluate next, as a pure function of what is known: that makes every search resumable.

    name: the name that `nas.search(..., algorithm=name)` takes.
    batch: how many architectures are asked for at a time.
    """

    @property
    def name(self) -> str: ...

    @property
    def batch(self) -> int: ...

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        """Up to `n` distinct members of `space` that are not among `evaluations`; none: the space is exhausted.

        All randomness comes from `rng`; nothing is remembered between calls.
        """
        ...


@cache
def _registry() -> dict[str, Algorithm]:
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    return {m.ALGORITHM.name: m.ALGORITHM for m in modules}


def algorithms() -> list[str]:
    """Names of the search algorithms."""
    return sorted(_registry())


def load_algorithm(algorithm: str | Algorithm) -> Algorithm:
    """The algorithm of that name, or the object itself. "auto": the best one; "optuna:GPSampler": any of Optuna's.

    Error: the valid names, the nearest first.
    """
    if not isinstance(algorithm, str):
        return algorithm
    if algorithm.startswith("optuna:"):
        from ..optuna_algorithm import named_sampler

        return named_sampler(algorithm.removeprefix("optuna:"))
    algorithm = AUTO if algorithm == "auto" else algorithm
    if algorithm not in _registry():
        raise unknown("algorithm", algorithm, _registry())
    return _registry()[algorithm]
