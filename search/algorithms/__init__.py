"""Search algorithms, one a file, whose name is the algorithm's. A file here that defines `ALGORITHM` is registered."""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from ...errors import unknown

if TYPE_CHECKING:
    import numpy as np

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
        self, space: "GeneSpace", evaluations: "Sequence[Evaluation]", n: int, rng: "np.random.Generator"
    ) -> "list[Architecture]":
        """Up to `n` distinct members of `space` that are not among `evaluations`; none: the space is exhausted.

        All randomness comes from `rng`; nothing is remembered between calls.
        """
        ...


def algorithms() -> list[str]:
    """Names of the search algorithms.

    >>> "nsga2" in nas.algorithms()
    True
    """
    return sorted(m.name for m in iter_modules(__path__))


def check_algorithm(name: str) -> None:
    """Error: no such algorithm; the valid names, the nearest first. Of Optuna's samplers `load_algorithm` says it."""
    if name not in ("auto", *algorithms()) and not name.startswith("optuna:"):
        raise unknown("algorithm", name, algorithms())


def load_algorithm(algorithm: str | Algorithm) -> Algorithm:
    """The algorithm of that name, or the object itself. "auto": the best one; "optuna:GPSampler": any of Optuna's.

    Error: as of `check_algorithm`.
    """
    if not isinstance(algorithm, str):
        return algorithm
    if algorithm.startswith("optuna:"):
        from ..optuna_algorithm import named_sampler

        return named_sampler(algorithm.removeprefix("optuna:"))
    check_algorithm(algorithm)
    return cast(Algorithm, import_module(f".{AUTO if algorithm == 'auto' else algorithm}", __package__).ALGORITHM)
