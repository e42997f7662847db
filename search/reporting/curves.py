"""How a search came to its front: the hypervolume after every evaluation, and the seconds that had passed.

Shapes: n evaluations, m objectives; losses are minimised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from ..pareto import hypervolume
from ..study import Study

PAUSE, PAUSE_SECONDS = 20.0, 60.0
"""A gap so many times the median gap, and longer than so many seconds, is a pause between two calls, no evaluation."""


@dataclass(frozen=True)
class Frame:
    """A box in which hypervolumes are shares, 0 to 1, and so can be compared between studies.

    best, reference: shape (m,), losses: the best value of every objective, and the worst moved out by a tenth of the
    range, as in `Study.hypervolume`.
    """

    best: NDArray[np.float64]
    reference: NDArray[np.float64]

    def share(self, losses: Sequence[Sequence[float]] | NDArray[np.float64]) -> float:
        """The part of the box that these points dominate."""
        box = float(np.prod(self.reference - self.best))
        return hypervolume(losses, self.reference) / box if box > 0 and len(losses) else 0.0


@dataclass(frozen=True)
class Curve:
    """Shape (n,) each: the hypervolume as a share of the frame, and the seconds since the first evaluation began."""

    hypervolume: list[float]
    seconds: list[float]


def frame_of(*studies: Study) -> Frame | None:
    """The frame of all that these studies evaluated; None where nothing gave finite values."""
    losses = np.array([e.losses for study in studies for e in study.evaluations if not e.failed], dtype=np.float64)
    if not len(losses):
        return None
    best, worst = losses.min(axis=0), losses.max(axis=0)
    return Frame(best, worst + 0.1 * (worst - best))


def hypervolume_now(study: Study) -> float:
    """Share of the box of all that was evaluated so far: the box grows with what is seen."""
    frame = frame_of(study)
    return 0.0 if frame is None else frame.share([e.losses for e in study.front_evaluations()])


def curve_of(study: Study, frame: Frame) -> Curve:
    """The curve of one study. An evaluation that leaves the front as it was costs no hypervolume."""
    front: list[tuple[float, ...]] = []
    shares: list[float] = []
    for evaluation in study.evaluations:
        larger = joined(front, evaluation.losses) if evaluation.feasible else None
        front = front if larger is None else larger
        shares.append(frame.share(front) if larger is not None else shares[-1] if shares else 0.0)
    return Curve(shares, worked_seconds(study.times))


def worked_seconds(times: Sequence[datetime]) -> list[float]:
    """Seconds of work at the end of every evaluation, pauses between calls left out.

    When the first evaluation began is not known: it counts as the median of the others.
    """
    gaps = np.array([(b - a).total_seconds() for a, b in pairwise(accumulate(times, max))])
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    gaps = np.where((gaps > PAUSE_SECONDS) & (gaps > PAUSE * usual), usual, gaps)
    return [float(s) for s in np.cumsum([usual, *gaps])] if len(times) else []


def joined(front: Sequence[tuple[float, ...]], new: tuple[float, ...]) -> list[tuple[float, ...]] | None:
    """The front once `new` has joined it; None where a point of it is as good in everything."""
    if any(_covers(old, new) for old in front):
        return None
    return [*(old for old in front if not _covers(new, old)), new]


def _covers(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is at least as good as `b` in everything."""
    return all(x <= y for x, y in zip(a, b, strict=True))
