"""Which nets gave no finite numbers, and what they have in common."""

from collections import Counter
from collections.abc import Sequence
from math import isnan

from ..search_space.architecture import Architecture
from .evaluation import Evaluation
from .study import Study

CLEAR = 0.5
"""Shares of the failed and of the other nets that differ by less do not explain a failure."""
MOST_NAMED = 3


def failure_notes(study: Study) -> list[str]:
    """A sentence for nets that failed, with the genes that explain it; nothing where none did.

    A net that failed is never feasible, on the front or among what the algorithms learn from.
    """
    failed = [e for e in study.evaluations if e.failed]
    if not failed:
        return []
    names = ", ".join(missing(failed))
    return [f"{len(failed)} of {len(study)} nets gave no finite {names}; {_common(study.evaluations, len(failed))}."]


def missing(failed: Sequence[Evaluation]) -> list[str]:
    """The metrics without a finite number, those of most of these nets first."""
    return [name for name, _ in Counter(n for e in failed for n, v in e.metrics.items() if isnan(v)).most_common()]


def _common(evaluations: Sequence[Evaluation], failed: int) -> str:
    """The options that most of the failed nets have and fewest of the others."""
    bad = _options([e.architecture for e in evaluations if e.failed])
    good = _options([e.architecture for e in evaluations if not e.failed])
    others = len(evaluations) - failed
    clear = {option: n / failed - good[option] / max(1, others) for option, n in bad.items()}
    most = max(clear.values(), default=0.0)
    if most < CLEAR or not others:
        return "no single gene explains it"
    named = [o for o, c in clear.items() if c == most][:MOST_NAMED]
    has = "all have" if all(bad[o] == failed for o in named) else f"{bad[named[0]]} of them have"
    also = good[named[0]]
    beside = f", as {also} of the {others} others do" if also else ", and none of the others does"
    return f"{has} {' and '.join(named)}{beside}"


def _options(nets: Sequence[Architecture]) -> Counter[str]:
    return Counter(f"{name}={value}" for net in nets for name, value in net.items())
