"""The divergence alarm: is this step's loss one that a healthy training would show?"""

from collections import deque
from math import isfinite
from statistics import median


class Alarm:
    """Rings when a loss is not finite or far above the running median of the healthy ones before it."""

    def __init__(self, window: int = 50, factor: float = 3.0, patience: int = 10) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._factor = factor
        self._patience = patience

    def rings(self, loss: float) -> bool:
        """Judge one loss, and remember it if it is healthy. Finite losses pass until `patience` are known."""
        if not isfinite(loss):
            return True
        if len(self._recent) >= self._patience and loss > self._factor * median(self._recent) + 1.0:
            return True
        self._recent.append(loss)
        return False

    @property
    def recent(self) -> list[float]:
        """The healthy losses in the window, for a checkpoint."""
        return list(self._recent)

    def restore(self, recent: list[float]) -> None:
        """Forget what is known and take `recent`."""
        self._recent.clear()
        self._recent.extend(recent)
