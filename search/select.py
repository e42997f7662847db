"""The fittest of what was evaluated: parents for algorithms that evolve."""

from collections.abc import Sequence

import numpy as np
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

from .evaluation import Evaluation
from .pareto import ranks


def fittest_evaluations(evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator) -> list[Evaluation]:
    """The first fronts of the feasible, the last of them thinned by crowding; then the least infeasible. Ties: by lot.

    pymoo's survival does the same, but on objects, which takes milliseconds once there are thousands.
    """
    feasible = [e for e in evaluations if e.feasible]
    if not feasible:
        return sorted((e for e in evaluations if not e.failed), key=lambda e: e.excess)[:n]
    losses = np.array([e.losses for e in feasible])
    level, room = ranks(losses), -np.ones(len(losses))
    edge = np.flatnonzero(level == np.sort(level)[:n][-1])
    room[edge] = get_crowding_function("cd").do(losses[edge])
    order = np.lexsort((rng.random(len(losses)), -room, level))[:n]
    infeasible = sorted((e for e in evaluations if not e.feasible and not e.failed), key=lambda e: e.excess)
    return ([feasible[i] for i in order] + infeasible)[:n]
