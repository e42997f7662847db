"""Evaluations in several processes or on several machines, by Ray: divided, retried where a worker dies, stopped."""

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch

from ..errors import UserError
from ..search_space.architecture import Architecture
from ..supernet.cluster import connected, first_line, wants_ray
from ..supernet.sharing import shared
from .calls import evaluate
from .evaluation import Evaluation
from .problem import Problem

RETRIES = 3
"""How often an evaluation is tried again whose worker died."""
PIECES = 4
"""Of evaluations that do not go together, each worker gets its share in about so many pieces: none waits long."""


class Workers:
    """Evaluates batches of `problem`, in this process or by Ray; what it started ends with it.

    workers and address: as `nas.search` takes them (`workers`, `ray`). If this process has connected to Ray already,
    that connection is used, and left alone.
    """

    def __init__(self, problem: Problem, workers: int | None = None, address: str | None = None) -> None:
        self.problem, self.workers, self.address = problem, workers, address
        self._stack = ExitStack()
        self._crew: _Crew | None = None
        self._batch: Generator[tuple[int, Evaluation]] | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._batch is not None:
            self._batch.close()
        self._stack.close()

    def evaluate(self, asked: Mapping[int, Architecture]) -> Iterator[tuple[int, Evaluation]]:
        """(place, evaluation) of each architecture, as soon as it is known, in any order."""
        if not wants_ray(self.workers, self.address):
            places = list(asked)
            return ((places[index], result) for index, result in evaluate(self.problem, list(asked.values())))
        if not asked:
            return iter(())
        if self._crew is None:  # Ray takes seconds to start, and a search that is done needs none
            ray = self._stack.enter_context(connected(self.workers, self.address))
            self._crew = _Crew(ray, self.problem, self.workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
        self._batch = self._crew.evaluate(asked)
        return self._batch


class _Crew:
    """At most `size` tasks at a time, each of which evaluates some architectures one after the other.

    Ray's own retries would begin such a task anew. Here only what it had not finished is tried again.
    """

    def __init__(self, ray: Any, problem: Problem, size: int) -> None:
        self.ray, self.size = ray, size
        with shared(ray):
            self.bundle = [ray.put(problem)]  # once a search; from a list Ray hands the reference on, not the content
        together = any(metric.batched for metric in problem.metrics.values())
        self.pieces = size if together else size * PIECES
        self.task = ray.remote(_evaluate).options(
            num_cpus=1, num_returns="streaming", max_retries=0, scheduling_strategy="SPREAD"
        )

    def evaluate(self, asked: Mapping[int, Architecture]) -> Generator[tuple[int, Evaluation]]:
        """As `Workers.evaluate`. After an error in an objective what is finished by then is given before it is raised.

        Error: an evaluation whose worker dies again and again.
        """
        waiting, running = deque(divided(asked, self.pieces)), dict[Any, dict[int, int]]()  # task: index -> place
        deaths = Counter[int]()
        failure: Exception | None = None
        try:
            while running or (waiting and failure is None):
                while waiting and len(running) < self.size and failure is None:
                    places = waiting.popleft()
                    task = self.task.remote(self.bundle, [asked[p] for p in places])
                    running[task] = dict(enumerate(places))
                ready, _ = self.ray.wait(list(running), timeout=None if failure is None else 0)
                if not ready:
                    break
                try:
                    index, evaluation = self._next(ready[0])
                except StopIteration:
                    del running[ready[0]]
                except _Lost as lost:
                    left = list(running.pop(ready[0]).values())
                    deaths.update(left[:1])  # the one that was being evaluated, if each is finished before the next
                    if left and deaths[left[0]] > RETRIES:
                        failure = _deadly(asked[left[0]], lost)
                    waiting.extendleft([left] if left else [])
                except Exception as error:
                    del running[ready[0]]
                    failure = failure or error
                else:
                    yield running[ready[0]].pop(index), evaluation
        finally:
            for task in running:
                self.ray.cancel(task, force=True)
        if failure is not None:
            raise failure

    def _next(self, task: Iterator[Any]) -> tuple[int, Evaluation]:
        """What the task finished next. Errors: StopIteration, `_Lost`, or what an objective raised, as it raised it."""
        errors = self.ray.exceptions
        gone = (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.OutOfMemoryError)
        try:
            result: tuple[int, Evaluation] = self.ray.get(next(task))
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, gone):
                raise _Lost from error
            raise cause if isinstance(cause, Exception) else error from error
        except gone as error:
            raise _Lost from error
        return result


class _Lost(Exception):
    """A worker or its machine died."""


def _deadly(architecture: Architecture, lost: _Lost) -> UserError:
    return UserError(
        f"the evaluation of architecture {architecture.id} ended its worker {RETRIES + 1} times "
        f"({first_line(lost.__cause__ or lost)}); out of memory, or a crash in native code?"
    )


def divided(asked: Mapping[int, Architecture], pieces: int) -> list[list[int]]:
    """The places in their order, in about equal pieces."""
    order = list(asked)
    bounds = [len(order) * i // pieces for i in range(pieces + 1)]
    return [order[a:b] for a, b in pairwise(bounds) if a < b]


def _evaluate(bundle: Sequence[Any], architectures: Sequence[Architecture]) -> Iterator[tuple[int, Evaluation]]:
    """What runs in a worker. One thread: there are as many workers as cores."""
    torch.set_num_threads(1)
    yield from evaluate(_problem(bundle[0]), architectures)


@lru_cache(maxsize=1)
def _problem(reference: Any) -> Problem:
    """Read once for each process, so that what its functions cache stays."""
    import ray

    problem: Problem = ray.get(reference)
    return problem
