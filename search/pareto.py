"""Fronts of minimised points: who dominates whom, how much is covered, where the bend is. Pure functions.

Shapes: points (n, m) for n points of m objectives, all minimised; reference (m,).
"""

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Mask (n,) of the points that no other point beats: at least as good in every objective, better in one.

    Equal points do not beat each other, so they stay or go together.
    """
    table = _table(points)
    if len(table) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(table, keep_weakly=True), dtype=bool)


def ranks(points: ArrayLike) -> NDArray[np.int64]:
    """Front number (n,) of every point: 0 is the front, 1 the front of what is left without it, and so on."""
    table = _table(points)
    if len(table) == 0:
        return np.zeros(0, dtype=np.int64)
    if table.shape[1] == 1:  # moocore wants two objectives
        return np.unique(table[:, 0], return_inverse=True)[1].astype(np.int64)
    return np.asarray(moocore.pareto_rank(table), dtype=np.int64)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The volume that `points` (n, m) dominate up to `reference` (m,); all m objectives are minimized.

    A point that does not beat the reference in every objective adds nothing.
    Exact: dimension sweep of Fonseca, Paquete and Lopez-Ibanez (2006), by the moocore library.

    >>> nas.hypervolume([(0, 1), (1, 0)], reference=(2, 2))
    3.0
    """
    table, corner = _table(points), np.asarray(reference, dtype=np.float64)
    if len(table) == 0:
        return 0.0
    inside = table[(table < corner).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - inside.min())
    return float(moocore.hypervolume(inside, ref=corner))


def knee(points: ArrayLike) -> int:
    """Index of the point of the front with the largest distance below the line through the front's extremes.

    Every objective is scaled to [0, 1] over the front; there the line (the plane, for more objectives) is sum(x) = 1,
    so the knee is the point with the smallest sum (Das, 1999: normal-boundary intersection). Ties: the first.
    """
    table = _table(points)
    if len(table) == 0:
        raise ValueError("a front without points has no knee")
    front = np.flatnonzero(non_dominated(table))
    low, high = table[front].min(axis=0), table[front].max(axis=0)
    scaled = (table[front] - low) / np.where(high > low, high - low, 1.0)
    return int(front[np.argmin(scaled.sum(axis=1))])


def _table(points: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(points, dtype=np.float64)
    return table if table.ndim == 2 else table.reshape(len(table), min(1, len(table)))
