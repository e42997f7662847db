"""What a search must beat: random search with as many evaluations, and uniform scaling of the largest net.

Both see the same objectives and limits as the search, and are studies of their own in its storage: they resume.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..search_space.architecture import Architecture, GeneValue
from ..search_space.gene_space import GeneSpace
from ..search_space.paths import kind_of
from ..search_space.trial import Gene
from .algorithms.random import RandomSearch
from .evaluation import Evaluation
from .run import NoFiniteValue, Progress, search
from .storage import disk_errors
from .study import Study


@dataclass(frozen=True)
class UniformScaling:
    """The nets on the line from the smallest to the largest (see `line`), as an algorithm."""

    batch: int = 20
    name: str = "uniform scaling"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        del rng
        seen = {e.architecture for e in evaluations}
        return [a for a in line(space) if a not in seen][:n]


def compare_baselines(
    study: Study,
    *,
    seed: int = 0,
    storage: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Study]:
    """Studies of the baselines by name, with the objectives and constraints of `study` and as many evaluations.

    Uniform scaling has fewer where its line has no more nets; a baseline without a finite value is left out.
    storage: that of the study, where each baseline is a study called `name` (default: that of `study`) and the
    baseline's name. seed: of random search. progress: as that of `search`.
    """
    called, result = name or study.optuna.study_name, {}
    for label, algorithm in (("random search", RandomSearch()), ("uniform scaling", UniformScaling())):
        with disk_errors(storage), suppress(NoFiniteValue):  # the search itself has nets that can be compared
            result[label] = search(
                study.space,
                study.problem.objectives,
                constraints=study.problem.constraints,
                algorithm=algorithm,
                evaluations=len(study),
                seed=seed,
                storage=storage,
                name=f"{called}, {label}",
                warm=False,
                progress=progress,
            )
    return result


def line(space: GeneSpace) -> list[Architecture]:
    """Uniform scaling: the distinct nets from small to large in which all sizes have moved equally far.

    A nested gene stands at the option of that rank, rounded: widths, heads and FFNs grow together. Switches that the
    largest net has on and the smallest off (a layer that is kept) go on one after the other at the same pace: that is
    depth. Other alternatives stay as they are in the largest net. Nets that break a requirement are left out.
    """
    switches = _switches(space)
    steps = {0.0} | {t for gene in space.genes.values() if gene.nested for t in _steps(len(gene.options) - 1)}
    steps |= {t for family in switches for t in _steps(len(family))}
    nets = dict.fromkeys(_net(space, switches, t) for t in sorted(steps))
    return [a for a in nets if space.allows(a)]


def _steps(n: int) -> list[float]:
    """Positions between 0 and 1 at which round(position * n) moves on."""
    return [(i + 0.5) / n for i in range(n)]


def _at(position: float, n: int) -> int:
    """position * n, rounded, halves upwards."""
    return int(np.floor(position * n + 0.5 + 1e-9))


def _net(space: GeneSpace, switches: Sequence[Sequence[str]], position: float) -> Architecture:
    """The net at one position, 0 to 1."""
    on = {name for family in switches for name in family[: _at(position, len(family))]}
    switched = {name for family in switches for name in family}
    largest = space.largest

    def choose(gene: Gene) -> GeneValue:
        if gene.nested:
            return gene.options[_at(position, len(gene.options) - 1)]
        if gene.name in switched:
            return gene.name in on
        value = largest.get(gene.name, gene.top)
        return value if value in gene.options else gene.top

    return space.walk(choose)


def _switches(space: GeneSpace) -> list[list[str]]:
    """Genes that are on in the largest net and off or gone in the smallest, by family (`layers.*.keep`)."""
    families: dict[str, list[str]] = {}
    for name, gene in space.genes.items():
        switch = set(gene.options) == {True, False} and not gene.nested
        if switch and space.largest.get(name) is True and space.smallest.get(name) is not True:
            families.setdefault(kind_of(name), []).append(name)
    return list(families.values())
