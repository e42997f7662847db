"""What a search shows while it runs: a view that refreshes itself on a terminal, a line now and then elsewhere.

The front is looked at four times a second at most, so that watching a search does not slow it down.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ...values import Metric, number_text
from ..costs import metric_of
from ..evaluation import Evaluation
from ..study import Study
from .curves import frame_of
from .terminal import EVERY

SHOWN = 5
REFRESH = 0.25
"""Seconds between two looks at the front on a terminal."""
Watch = Callable[[int, int, Study], None]


@dataclass
class Pace:
    """Evaluations per second of this call: those of earlier calls, which were only loaded, do not count."""

    clock: Callable[[], float] = time.monotonic
    start: float | None = None
    first: int = 0
    rate: float = 0.0

    def update(self, done: int) -> None:
        """`done` nets are evaluated now. The first one that is told sets the clock."""
        if self.start is None:
            self.start, self.first = self.clock(), done
        elif done > self.first:
            self.rate = (done - self.first) / max(1e-9, self.clock() - self.start)

    def eta(self, left: int) -> str:
        return f"{left / self.rate:.0f} s" if self.rate else "unknown"


@contextmanager
def watching(console: Console, title: str, metric: Metric) -> Iterator[Watch]:
    """Yields the function (done, total, study) that a search calls after every evaluation. metric: of the quality."""
    with (_view if console.is_terminal else _lines)(console, title, metric) as watch:
        yield watch


@contextmanager
def _view(console: Console, title: str, metric: Metric) -> Iterator[Watch]:
    """A bar with an ETA, the speed, the hypervolume, and the best nets of the front."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console)
    task, pace, seen = bar.add_task(title, total=None), Pace(), [0.0]
    with Live(bar, console=console, refresh_per_second=1 / REFRESH) as live:

        def watch(done: int, total: int, study: Study) -> None:
            pace.update(done)
            if done < total and time.monotonic() - seen[0] < REFRESH:
                return
            bar.update(task, completed=done, total=total)
            state = f"{pace.rate:.3g} nets/s, hypervolume {hypervolume_now(study):.3f}"
            live.update(Group(bar, state, front_rows(study, metric)))
            seen[0] = time.monotonic()

        yield watch


@contextmanager
def _lines(console: Console, title: str, metric: Metric) -> Iterator[Watch]:
    """One line every ten seconds, for logs and pipes."""
    pace, seen = Pace(), [time.monotonic()]

    def watch(done: int, total: int, study: Study) -> None:
        pace.update(done)
        if time.monotonic() - seen[0] < EVERY:
            return
        text = f"{title} {done}/{total}, {pace.rate:.3g} nets/s, ETA {pace.eta(total - done)}, {_state(study, metric)}"
        console.print(text, soft_wrap=True, highlight=False)
        seen[0] = time.monotonic()

    yield watch


def front_rows(study: Study, metric: Metric) -> Table:
    """The first nets of the front as it is now."""
    front, names = study.front_evaluations(), list(study.problem.objectives)
    table = Table(title=f"Front so far: {len(front)} nets", title_justify="left")
    for name in ("id", *names):
        table.add_column(name.replace("_", " "), justify="left" if name == "id" else "right")
    for evaluation in front[:SHOWN]:
        table.add_row(evaluation.architecture.id, *(number(evaluation, name, metric) for name in names))
    return table


def number(evaluation: Evaluation, name: str, metric: Metric) -> str:
    """A cost or the quality as text, without the unit, which the name of a cost ends with."""
    value, cost = evaluation.metrics[name], metric_of(name)
    return number_text(value) if cost and cost.unit else (cost or metric).text(value)


def hypervolume_now(study: Study) -> float:
    """Share of the box of all that was evaluated so far (see `curves.Frame`): the box grows with what is seen."""
    frame = frame_of(study)
    return 0.0 if frame is None else frame.share([e.losses for e in study.front_evaluations()])


def _state(study: Study, metric: Metric) -> str:
    front = study.front_evaluations()
    best = f", best {', '.join(number(front[0], n, metric) for n in study.problem.objectives)}" if front else ""
    return f"hypervolume {hypervolume_now(study):.3f}, front {len(front)} nets{best}"
