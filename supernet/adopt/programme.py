"""An integer programme over single replacements: one for each gene, the least loss under a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from ...search_space.architecture import GeneValue


@dataclass(frozen=True)
class Replacement:
    """Genes that take another option, all at once: of one gene, or of all genes of a layer (which leaves it out).

    loss: what that adds to the loss. cost: what it adds to the cost, less than zero where it saves.
    """

    genes: Mapping[str, GeneValue]
    loss: float
    cost: float


def cheapest(replacements: Sequence[Replacement], saving: float) -> list[Replacement] | None:
    """Those that add the least loss, if losses add up, and save so much cost; no gene is in two of them. None: no such.

    As blocks are chosen by Puzzle (Bercovich et al. 2024), with scipy's HiGHS.
    """
    if saving <= 0:
        return []
    genes = sorted({name for each in replacements for name in each.genes})
    if not genes:
        return None
    once = np.array([[name in each.genes for each in replacements] for name in genes], dtype=float)
    losses, costs = (np.array(x) for x in zip(*((each.loss, each.cost) for each in replacements), strict=True))
    losses = losses / max(np.abs(losses).max(), 1e-300)  # the solver's tolerances are absolute
    most = max(np.abs(costs).max(), 1e-300)
    result = milp(
        losses,
        integrality=np.ones(len(replacements)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, ub=1), LinearConstraint(costs[None] / most, ub=-saving / most)],
        options={"mip_rel_gap": 0},
    )
    if result.x is None:
        return None
    return [each for each, taken in zip(replacements, result.x, strict=True) if taken > 0.5]
