"""NSGA-II (Deb et al., 2002): pymoo's selection and survival, with operators that know conditional genes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2 as PymooNSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from ...search_space.architecture import Architecture
from ...search_space.gene_space import GeneSpace
from ..draws import unseen
from ..evaluation import Evaluation
from ..guide.breeding import fittest
from ..guide.designs import unseen_designs

BREEDINGS = 10
"""Rounds of breeding that look for new children before the rest of a batch is drawn at random."""


@dataclass(frozen=True)
class NSGA2:
    """Evolve the best `population` of all that was evaluated, `batch` children at a time.

    What differs from the textbook, because evaluations are few and costly and spaces hold conditional genes:
    the first `initial` evaluations are the largest and the smallest net of the space, the ends of most fronts, and
    sizes between (see `designs.SPREAD`);
    survivors are chosen from everything evaluated, so that no non-dominated net is lost, and a killed search needs no
    other state than its evaluations; a child that was evaluated before is bred again; the population is small, and
    most children are mutants of one parent, which on fronts known by enumeration comes closer in 200 evaluations than
    a population of 50 and much crossover.
    Infeasible nets rank behind feasible ones, by their excess; failed ones do not breed.

    crossover: share of children that have two parents. mutation: genes changed in the mean; one changes at least.
    """

    population: int = 12
    initial: int = 30
    batch: int = 10
    crossover: float = 0.15
    mutation: float = 0.3
    name: str = "nsga2"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        seen = {e.architecture for e in evaluations}
        alive = [e for e in evaluations if not e.failed]
        losses, excess = (np.array([getattr(e, name) for e in alive]) for name in ("losses", "excess"))
        lots = rng.random(np.count_nonzero(excess <= 0))
        parents = [alive[i] for i in fittest(losses, excess, self.population, lots)]
        if len(evaluations) < self.initial:
            children = unseen_designs(space, seen, n, rng)
        else:
            children = self._breed(space, parents, seen, n, rng) if len(parents) > 1 else []
        return children + unseen(space, seen.union(children), n - len(children), rng)

    def _breed(
        self, space: GeneSpace, parents: list[Evaluation], seen: set[Architecture], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        problem = Problem(n_var=1, n_obj=len(parents[0].losses), n_ieq_constr=1)
        algorithm = PymooNSGA2(
            pop_size=len(parents),
            n_offsprings=n,
            crossover=_Cross(space, self.crossover),
            mutation=_Mutate(space, self.mutation),
            eliminate_duplicates=_Unseen(seen),
            seed=rng,
        ).setup(problem)
        algorithm.mating.n_max_iterations = BREEDINGS
        algorithm.is_initialized = True
        algorithm.pop = RankAndCrowding().do(problem, _population(parents), random_state=rng)  # ranks them
        offspring = algorithm.ask()  # None: breeding found nothing new
        return [] if offspring is None else [individual.X[0] for individual in offspring]


def _population(evaluations: Sequence[Evaluation]) -> Population:
    return Population.new(
        X=_column([e.architecture for e in evaluations]),
        F=np.array([e.losses for e in evaluations]),
        G=np.array([[e.excess] for e in evaluations]),
    )


def _column(architectures: Sequence[Architecture]) -> NDArray[np.object_]:
    """Shape (n, 1) of objects: numpy must not look into an architecture as if it were a row."""
    column = np.empty((len(architectures), 1), dtype=object)
    column[:, 0] = architectures
    return column


class _Cross(Crossover):  # type: ignore[misc]
    """Two parents, one child; pymoo's X has the shape (parents, matings, 1)."""

    def __init__(self, space: GeneSpace, probability: float) -> None:
        super().__init__(n_parents=2, n_offsprings=1, prob=probability)
        self.space = space

    def _do(self, _: Problem, X: Any, *__: Any, random_state: np.random.Generator, **___: Any) -> Any:
        pairs = zip(X[0, :, 0], X[1, :, 0], strict=True)
        return _column([self.space.crossover(a, b, random_state) for a, b in pairs])[None]


class _Mutate(Mutation):  # type: ignore[misc]
    """Every child changes; see `GeneSpace.mutate`."""

    def __init__(self, space: GeneSpace, genes: float) -> None:
        super().__init__()
        self.space = space
        self.genes = genes

    def _do(self, _: Problem, X: Any, *__: Any, random_state: np.random.Generator, **___: Any) -> Any:
        return _column([self.space.mutate(a, random_state, self.genes / max(1, len(a))) for a in X[:, 0]])


class _Unseen(DuplicateElimination):  # type: ignore[misc]
    """Marks children that were evaluated before, and duplicates."""

    def __init__(self, seen: set[Architecture]) -> None:
        super().__init__()
        self.seen = seen

    def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
        others = set(self.seen) if other is None else {o.X[0] for o in other}
        for i, individual in enumerate(pop):
            is_duplicate[i] |= individual.X[0] in others
            if other is None:
                others.add(individual.X[0])
        return is_duplicate


ALGORITHM = NSGA2()
