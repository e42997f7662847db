"""Whether predictions put nets in their order: what a search needs of them before anything else."""

from math import log

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 5
"""Nets; fewer are too few pairs to refuse anything."""
LEAST = 0.5
"""Kendall tau of nets left out below which a profile predicts nothing: three pairs of four are in order at 0.5, and
half of them by chance."""
UNSTATED = 0.05
"""Repeat noise where none is stated."""
MOST = 2000
"""Nets that are looked at, evenly spread over the latencies: the pairs of more would fill the memory."""
DISTINCT = 0.2
"""Share of the pairs that must be apart; of nets that all take as long, the order says nothing."""


def rank_of(log_truth: Array, log_predicted: Array, noise: float) -> float | None:
    """Kendall tau over the pairs whose measurements differ by more than twice the repeat noise (a share; 0: unknown).

    None: fewer than `FEWEST` nets, or too few pairs that are apart.
    """
    if len(log_truth) < FEWEST:
        return None
    if len(log_truth) > MOST:
        some = np.argsort(log_truth, kind="stable")[np.linspace(0, len(log_truth) - 1, MOST).astype(int)]
        log_truth, log_predicted = log_truth[some], log_predicted[some]
    first, second = np.triu_indices(len(log_truth), 1)
    apart = log_truth[first] - log_truth[second]
    distinct = np.abs(apart) > 2 * log(1 + (noise or UNSTATED))
    if distinct.mean() < DISTINCT:
        return None
    predicted = np.sign(log_predicted[first] - log_predicted[second])
    return float(np.mean(np.sign(apart[distinct]) * predicted[distinct]))
