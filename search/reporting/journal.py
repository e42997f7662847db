"""search.log in the run folder: a time-stamped line for each thing that happened, of every search of the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..evaluation import Evaluation
from ..pipeline import Choice
from ..study import Study
from .analysis import Analysis
from .curves import hypervolume_now, joined

LOG = logging.getLogger("nas.search")
NAME = "search.log"
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _File(logging.FileHandler):
    """A line that cannot be written (a full disk) is left out: the log is not what the search is for."""

    def handleError(self, record: logging.LogRecord) -> None:
        del record


@contextmanager
def journal(folder: Path, command: str) -> Iterator[None]:
    """Append what this package logs to the file while the block runs: its command first, how it ended last."""
    folder.mkdir(parents=True, exist_ok=True)
    handler, level = _File(folder / NAME, encoding="utf-8"), LOG.level
    handler.setFormatter(logging.Formatter(FORMAT))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        LOG.info("command: %s", command)
        yield
        LOG.info("end")
    except BaseException as error:
        LOG.error("end: %s", " ".join(f"{type(error).__name__}: {error}".split()))
        raise
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        handler.close()


def log_choice(choice: Choice, analysis: Analysis) -> None:
    """What was found, beside what, and what a user should know."""
    for row in analysis.comparison.to_dict("records"):
        LOG.info("%(search)s: %(evaluations)d nets, hypervolume %(hypervolume).4f, front %(front)d nets", row)
    for note in choice.notes:
        LOG.info("note: %s", note)
    LOG.info("answer: %s", choice.text)


class FrontLog:
    """Called after every evaluation; logs the start, and each net that improves the front with the hypervolume then."""

    def __init__(self) -> None:
        self._front: list[tuple[float, ...]] | None = None

    def __call__(self, done: int, total: int, study: Study) -> None:
        if self._front is None:
            LOG.info("start: %d of %d nets were evaluated before", done - 1, total)
            self._front = []
            for earlier in study.evaluations[:-1]:
                self._see(earlier)
        newest = study.evaluations[-1]
        if self._see(newest):
            words = ", ".join(f"{name} {text}" for name, text in study.problem.texts(newest).items())
            values = (done, total, newest.architecture.id, words, len(self._front), hypervolume_now(study))
            LOG.info("%d/%d: net %s joins the front (%s); %d nets, hypervolume so far %.4f", *values)

    def _see(self, evaluation: Evaluation) -> bool:
        """Whether it improves the front, which is kept up to date: to ask the study each time would cost more."""
        larger = joined(self._front or [], evaluation.losses) if evaluation.feasible else None
        self._front = self._front if larger is None else larger
        return larger is not None
