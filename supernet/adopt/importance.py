"""Importance sorting: leading corners of a trained model keep what matters most."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError, check_least, unknown
from ...files import read_json, write_json
from ...search_space.architecture import Architecture
from ...search_space.axes import Axis
from ...search_space.inputs import call
from ...search_space.paths import kind_of
from ...tasks import Task
from ..statistics import placed
from ..store import Supernet
from .calibration import Calibration
from .order import sort_axes, sortable_axes, unsort
from .readings import METHODS, Scores, read

Progress = Callable[[str, int, int, Any], None]
BATCH = 4
"""Samples of a forward and backward pass."""
KEPT = "importance.json"


@dataclass(frozen=True)
class Importance:
    """How the axes were sorted. methods: the one that was chosen for each kind of gene (`layers.*.ffn`).

    losses: on the calibration samples, for each kind and method, of the net whose genes of that kind are all one option
    below their top.
    """

    methods: dict[str, str]
    losses: dict[str, dict[str, float]]


def sort_by_importance(
    supernet: Supernet,
    task: Task,
    *,
    methods: Sequence[str] = METHODS,
    samples: int = 16,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Importance:
    """Sort the shared axes of a supernet (hidden channels, heads), so that its small nets keep what matters most.

    Nothing is trained. The largest net computes what it did, to the bit: it is given back in its first order. How
    entries are scored is chosen for each kind of gene by the loss of narrower nets on the task's training samples.
    methods: to choose from, of `activation`, `energy`, `taylor`, `fisher` (see `readings.METHODS`).
    samples: of the task's training split, to score on and to compare on.
    folder: the losses are kept there, in importance.json, as they are measured; the same call goes on from it.
    progress: called as `progress(stage, done, total, None)`.
    Sort before training: a training in flight holds the tensors in the order that they had.
    Errors: an unknown method; a space none of whose axes can be permuted.

    >>> nas.sort_by_importance(supernet, task, methods=["activation"]).methods
    {'width': 'activation', 'hidden': 'activation'}
    """
    check_least(1, samples=samples)
    for method in methods:
        if method not in METHODS:
            raise unknown("method", method, METHODS)
    unsort(supernet)
    axes = sortable_axes(supernet, placed(task.example, supernet))
    scored = _scores(supernet, task, axes, samples, progress)
    kinds = _kinds(scored)
    calibration = Calibration(supernet, task, samples)
    known = _kept(folder, calibration.identity)
    losses: dict[str, dict[str, float]] = {}
    total = len(kinds) * len(methods) if len(methods) > 1 else 0
    for kind, members in kinds.items():
        losses[kind] = known.get(kind, {})
        for method in methods if total else ():
            if method not in losses[kind]:
                sort_axes(supernet, _orders(members, method))
                losses[kind][method] = calibration.loss(_narrower(supernet, kind))
                unsort(supernet)
                if folder is not None:
                    write_json(Path(folder) / KEPT, {"of": calibration.identity, "losses": losses})
            if progress is not None:
                progress("Comparing importances", sum(map(len, losses.values())), total, None)
    chosen = {kind: min(methods, key=lambda m, k=kind: losses[k].get(m, 0.0)) for kind in kinds}  # type: ignore[misc]
    sort_axes(supernet, [order for kind, members in kinds.items() for order in _orders(members, chosen[kind])])
    return Importance(chosen, losses)


Scored = list[tuple[Axis, Scores]]


def _scores(supernet: Supernet, task: Task, axes: list[Axis], samples: int, progress: Progress | None) -> Scored:
    size = min(BATCH, samples, task.train.size or BATCH)
    steps = -(-samples // size)
    with read(supernet, axes) as (net, scores), torch.enable_grad():
        if not any(scores):
            raise UserError("no axis of this space can be sorted: none can be permuted and is read by a linear layer")
        for step in range(steps):
            inputs, targets = placed(task.batch(step, size, seed=0, augment=False), net)
            prediction = task.prediction(call(net, inputs))
            task.loss_of(prediction, task.targets_for(prediction, targets)).backward()  # type: ignore[no-untyped-call]
            if progress is not None:
                progress("Scoring channels and heads", step + 1, steps, None)
    return list(zip(axes, scores, strict=True))


def _kinds(scored: Scored) -> dict[str, Scored]:
    results: dict[str, Scored] = {}
    for axis, scores in scored:
        if scores:
            results.setdefault(kind_of(axis.gene), []).append((axis, scores))
    return results


def _orders(scored: Scored, method: str) -> list[tuple[Axis, Tensor]]:
    """What matters most first; of equals, what was first."""
    return [(axis, scores[method].argsort(descending=True, stable=True)) for axis, scores in scored]


def _narrower(supernet: Supernet, kind: str) -> Architecture:
    """The largest net with all genes of a kind at the option below their top."""
    space = supernet.space
    lower = {n: gene.options[-2] for n, gene in space.genes.items() if kind_of(n) == kind and len(gene.options) > 1}
    return space.walk(lambda gene: lower.get(gene.name, space.largest.get(gene.name, gene.top)))


def _kept(folder: str | os.PathLike[str] | None, identity: str) -> dict[str, dict[str, float]]:
    path = None if folder is None else Path(folder) / KEPT
    kept = read_json(path, "importance losses") if path and path.exists() else {}
    return kept["losses"] if kept.get("of") == identity else {}
