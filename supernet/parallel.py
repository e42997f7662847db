"""Training in several processes by Ray Train: data-parallel, with the loss curve of one process.

Every process computes its samples of each batch; gradients and losses are added up (gloo on processors, nccl on GPUs).
The first process writes the checkpoints, and after a worker has died all go on from the newest one. Layers that look
at a whole batch (BatchNorm in training mode) see a process's part of it, and dropout draws anew in each: the curve of
nets with these is another one.
"""

import os
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from queue import Empty
from threading import Thread
from typing import Any

import torch

from ..errors import UserError
from ..tasks import Task
from .cluster import check_workers, connected
from .group import Group
from .recipe import Recipe
from .sharing import shared
from .store import Supernet
from .trainer import Trainer

RESTARTS = 3
"""How often a training goes on after a worker has died."""
POLL = 0.5
"""Seconds between two looks at what the workers have done."""


def train_together(
    folder: Path, supernet: Supernet, task: Task, recipe: Recipe, workers: int, progress: Any = None
) -> None:
    """Train in `workers` processes; the checkpoints in `folder`, which all of them reach, then hold the last step.

    The processes compute where the supernet is: on GPUs, one each, if it is on one.
    Errors: Ray is not installed; more workers than samples in a batch; what a worker raised.
    """
    check_workers(max(2, workers), None)
    if workers > task.batch_size_for(recipe.batch_size):
        size = task.batch_size_for(recipe.batch_size)
        raise UserError(f"workers must be at most the batch size of {size}, got {workers}")
    on_gpu = next(supernet.parameters()).is_cuda
    with connected(workers + 1, None, prints=False) as ray, shared(ray), tempfile.TemporaryDirectory() as storage:
        from ray import train as ray_train  # slow to import
        from ray.train.torch import TorchTrainer
        from ray.util.queue import Queue

        done = Queue(actor_options={"num_cpus": 0})
        threads = max(1, (os.cpu_count() or 1) // workers)
        config = {"bundle": [ray.put((supernet.cpu(), task, recipe, folder))], "done": done, "threads": threads}
        trainer = TorchTrainer(
            _work,
            train_loop_config=config,
            scaling_config=ray_train.ScalingConfig(num_workers=workers, use_gpu=on_gpu),
            run_config=ray_train.RunConfig(
                storage_path=storage, failure_config=ray_train.FailureConfig(max_failures=RESTARTS)
            ),
        )
        with redirect_stdout(StringIO()):  # it prints where its files are, which are temporary
            _watched(trainer, done, progress)


def _watched(trainer: Any, done: Any, progress: Any) -> None:
    """Run the trainer in a thread, and pass on the steps of the first worker. Error: as a worker raised it."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive() or not done.empty():
        try:
            step, steps, row = done.get(timeout=POLL)
        except Empty:
            continue
        if progress is not None:
            progress(step, steps, row)
    thread.join()
    if failures:
        raise _cause(failures[0])


def _cause(error: BaseException) -> BaseException:
    """The user's own mistake behind what Ray raised, if it is one."""
    seen: BaseException | None = error
    while seen is not None:
        for inner in (seen, *getattr(seen, "worker_failures", {}).values()):
            cause = getattr(inner, "cause", inner)
            if isinstance(cause, UserError):
                return cause
        seen = seen.__cause__
    return error


def _work(config: Mapping[str, Any]) -> None:
    """What runs in each process."""
    import ray
    from ray.train import get_context
    from ray.train.torch import get_device

    torch.set_num_threads(config["threads"])
    supernet, task, recipe, folder = ray.get(config["bundle"][0])
    for tensor in (*supernet.parameters(), *supernet.buffers()):
        tensor.data = tensor.data.clone()  # they lie in memory that all processes read
    supernet.to(get_device())
    context = get_context()
    trainer = Trainer(supernet, task, recipe, folder, Group(context.get_world_rank(), context.get_world_size()))
    trainer.resume()
    trainer.begin()
    while not trainer.finished:
        row = trainer.advance()
        if trainer.group.rank == 0:
            config["done"].put((trainer.step, trainer.steps, row))
