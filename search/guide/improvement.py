"""How much hypervolume each of many points would add to a front. Shapes as in `pareto`."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Improvement:
    """What candidates add to a front, one after another; exact up to two objectives, by Monte Carlo beyond.

    front: (n, m), may be empty. reference: (m,). best: (m,) a corner that no candidate is likely to pass.
    """

    def __init__(
        self, front: Array, reference: Array, best: Array, rng: np.random.Generator, samples: int = 4000
    ) -> None:
        self.front, self.reference = front, reference
        if len(reference) > 2:
            draws = best + rng.random((samples, len(reference))) * (reference - best)
            self._open: Array = draws[~_dominated(draws, front)]

    def of(self, points: Array) -> Array:
        """(k,) of points (k, m)."""
        if len(self.reference) == 1:
            best = min([*self.front[:, 0], self.reference[0]])
            return np.asarray(np.maximum(0.0, best - points[:, 0]), dtype=np.float64)
        if len(self.reference) == 2:
            return _staircase(self.front, self.reference, points)
        covered = np.ones((len(points), len(self._open)), dtype=bool)
        for axis in range(len(self.reference)):
            covered &= points[:, axis, None] <= self._open[None, :, axis]
        return cast(Array, covered.sum(axis=1) / max(1, len(self._open)))

    def add(self, point: Array) -> None:
        """The point is part of the front from now on."""
        self.front = np.vstack([self.front, point])
        if len(self.reference) > 2:
            self._open = self._open[~(point <= self._open).all(axis=1)]


def _dominated(draws: Array, front: Array) -> NDArray[np.bool_]:
    result = np.zeros(len(draws), dtype=bool)
    for point in front:
        result |= (point <= draws).all(axis=1)
    return result


def _staircase(front: Array, reference: Array, points: Array) -> Array:
    """Two objectives: the sum over the steps of the front of width times height of what a point adds there."""
    inside = front[(front < reference).all(axis=1)]
    inside = inside[np.lexsort((inside[:, 1], inside[:, 0]))]
    heights = np.minimum.accumulate(inside[:, 1])
    left = np.concatenate([[-np.inf], inside[:, 0]])
    right = np.concatenate([inside[:, 0], reference[:1]])
    width = np.maximum(0.0, right - np.maximum(left, points[:, :1]))
    height = np.maximum(0.0, np.concatenate([reference[1:], heights]) - points[:, 1:])
    return cast(Array, (width * height).sum(axis=1))
