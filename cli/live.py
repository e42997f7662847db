"""What a command shows while it works: a view that refreshes itself on a terminal, else a line now and then.

A state is looked at four times a second at most, so that watching a search does not slow it down.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..search.reporting.curves import hypervolume_now
from ..search.study import Study

SHOWN = 5
REFRESH, EVERY = 0.25, 10.0
"""Seconds between two looks at a state on a terminal; between two lines where there is none."""
View = Callable[[int, int, Any], None]


class Display:
    """The `progress` of a call (`search.job.Progress`): shows a stage until another begins or the block ends."""

    def __init__(self, console: Console) -> None:
        self._console, self._open, self._stage = console, ExitStack(), ""
        self._show: View = _nothing

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __call__(self, stage: str, done: int = 0, total: int = 0, state: Any = None) -> None:
        if stage != self._stage:
            self._open.close()
            self._stage, self._show = stage, self._open.enter_context(self._view(stage, total))
        self._show(done, total, state)

    def at(self, stage: str) -> Callable[..., None]:
        """The same for calls that have one stage."""
        return lambda done, total, state=None: self(stage, done, total, state)

    @contextmanager
    def _view(self, stage: str, total: int) -> Iterator[View]:
        if not total:
            with self._console.status(stage):
                yield _nothing
            return
        with _bar(self._console, stage) if self._console.is_terminal else _lines(self._console, stage) as view:
            yield view


def _nothing(done: int, total: int, state: Any) -> None:
    del done, total, state


@dataclass
class Pace:
    """Steps per second of this call: those of earlier calls, which were only loaded, do not count."""

    clock: Callable[[], float] = time.monotonic
    start: float | None = None
    first: int = 0
    rate: float = 0.0

    def update(self, done: int) -> None:
        """`done` steps are made now. The first call sets the clock."""
        if self.start is None:
            self.start, self.first = self.clock(), done
        elif done > self.first:
            self.rate = (done - self.first) / max(1e-9, self.clock() - self.start)

    def eta(self, left: int) -> str:
        return f"{left / self.rate:.0f} s" if self.rate else "unknown"


@contextmanager
def _bar(console: Console, stage: str) -> Iterator[View]:
    """A bar with an ETA, the speed and the state; of a search also the best nets of the front."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console)
    task, pace, seen = bar.add_task(stage, total=None), Pace(), [0.0]
    with Live(bar, console=console, refresh_per_second=1 / REFRESH) as live:

        def view(done: int, total: int, state: Any) -> None:
            pace.update(done)
            if done < total and time.monotonic() - seen[0] < REFRESH:
                return
            bar.update(task, completed=done, total=total)
            front = [front_rows(state)] if isinstance(state, Study) else []
            live.update(Group(bar, ", ".join([f"{pace.rate:.3g}/s", *_words(state)]), *front))
            seen[0] = time.monotonic()

        yield view


@contextmanager
def _lines(console: Console, stage: str) -> Iterator[View]:
    """One line every ten seconds, for logs and pipes."""
    pace, seen = Pace(), [time.monotonic()]

    def view(done: int, total: int, state: Any) -> None:
        pace.update(done)
        if time.monotonic() - seen[0] < EVERY:
            return
        parts = [f"{stage} {done}/{total}", f"{pace.rate:.3g}/s", f"ETA {pace.eta(total - done)}", *_words(state)]
        console.print(", ".join(parts), soft_wrap=True, highlight=False)
        seen[0] = time.monotonic()

    yield view


def _words(state: Any) -> list[str]:
    """Of the row of a training step, or of the study of a search."""
    if isinstance(state, Mapping):
        return [f"loss {state['loss']:.3f}"]
    if not isinstance(state, Study):
        return []
    front = state.front_evaluations()
    best = [f"best {', '.join(state.problem.texts(front[0]).values())}"] if front else []
    return [f"hypervolume {hypervolume_now(state):.3f}", f"front {len(front)} nets", *best]


def front_rows(study: Study) -> Table:
    """The first nets of the front as it is now."""
    front = study.front_evaluations()
    table = Table(title=f"Front so far: {len(front)} nets", title_justify="left")
    for name in ("id", *study.problem.objectives):
        table.add_column(name.replace("_", " "), justify="left" if name == "id" else "right")
    for evaluation in front[:SHOWN]:
        table.add_row(evaluation.architecture.id, *study.problem.texts(evaluation).values())
    return table
