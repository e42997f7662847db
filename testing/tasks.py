"""The contract of a task: splits that are fixed and apart, batches that a training can go on with, a sound metric."""

from collections.abc import Iterator
from itertools import chain, combinations, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ..search_space.presets import load_preset
from ..search_space.space import SearchSpace
from ..supernet.store import Supernet
from ..supernet.train import train
from ..tasks import Split, Task, load_task
from ..tasks.outputs import IGNORED
from .suite import Checks, Suite, run_all

SUITE: Suite[Task] = Suite()
SPLITS = ("train", "validation", "test")
MOST = 1000
"""Samples that are looked at where a split is not in memory."""


def check_task(task: str | Task) -> None:
    """Hold a task, or the one of that name, to its contract, until a check fails.

    Errors: AssertionError, with the name of the check and what it saw.

    >>> nas.testing.check_task("digits")
    """
    run_all(task_checks(task))


def task_checks(task: str | Task) -> Checks:
    """The checks of a task by name; each is a function without arguments that raises AssertionError.

    They read up to 1,000 samples of a split that is not in memory, and train the default space, if the task names one,
    for ten steps.

    >>> @pytest.mark.parametrize("check", nas.testing.task_checks("digits").values())
    ... def test_digits(check):
    ...     check()
    """
    loaded = load_task(task) if isinstance(task, str) else task
    again = {"splits_are_fixed": lambda: splits_are_fixed(loaded, load_task(task))} if isinstance(task, str) else {}
    return SUITE.of(loaded) | again


def batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """Of a split that is not in memory the first."""
    yield from islice(data.batches(100), None if isinstance(data, Split) else MOST // 100)


def keys(inputs: Any) -> list[bytes]:
    """What tells the samples of a batch apart."""
    arrays = [t.numpy() for t in tree_leaves(inputs)]
    return [b"".join(array[i].tobytes() for array in arrays) for i in range(len(arrays[0]))]


def all_keys(data: Any) -> list[bytes]:
    return [key for inputs, _ in batches(data) for key in keys(inputs)]


def equal(one: Any, other: Any) -> bool:
    """Whether two pytrees hold equal tensors."""
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def splits(task: Task) -> dict[str, Any]:
    return {name: data for name in SPLITS if (data := getattr(task, name)) is not None}


@SUITE.add()
def splits_are_disjoint(task: Task) -> None:
    own = {name: set(all_keys(data)) for name, data in splits(task).items()}
    for one, other in combinations(own, 2):
        assert not own[one] & own[other], f"{one} and {other} share samples"


def splits_are_fixed(task: Task, again: Task) -> None:
    """again: the same task, loaded once more."""
    assert task.digest == again.digest
    for name, data in splits(task).items():
        for one, other in zip(batches(data), batches(splits(again)[name]), strict=True):
            assert equal(one, other), f"{name} is not the same when it is loaded again"


@SUITE.add()
def forms(task: Task) -> None:
    """Inputs and targets of every split have the form of the example; a walk gives each sample once, in order."""
    form = [(t.dtype, t.shape[1:]) for t in tree_leaves(task.example)]
    assert all(len(t) == 1 for t in tree_leaves(task.example))
    for name, data in splits(task).items():
        batch = next(data.batches(7))
        assert [(t.dtype, t.shape[1:]) for t in tree_leaves(batch[0])] == form, name
        assert {len(t) for t in tree_leaves(batch)} == {7 if data.size is None else min(7, data.size)}, name
        assert not any(t.requires_grad for t in tree_leaves(batch)), name
    small = task.subset(validation=10).validation
    assert equal(tree_map(lambda *parts: torch.cat(parts), *small.batches(4)), next(small.batches(10)))


@SUITE.add()
def targets_are_classes(task: Task) -> None:
    """Of targets that are whole numbers: none is outside of the classes, and each label is among those of train."""
    seen: dict[str, set[int]] = {}
    for name, data in splits(task).items():
        tensors = [t for _, targets in batches(data) for t in tree_leaves(targets) if not t.is_floating_point()]
        seen[name] = set().union(*(t.unique().tolist() for t in tensors)) - {IGNORED}
        assert seen[name] <= set(range(task.classes)), name
    if task.labels:
        assert seen["train"] == set(range(task.classes))


@SUITE.add(lambda task: bool(task.mean))
def inputs_are_normalised(task: Task) -> None:
    """Where the task states means and deviations: each channel has mean 0 and deviation 1 over the training split."""
    columns = torch.cat([inputs for inputs, _ in batches(task.train)]).transpose(0, 1).flatten(1)
    assert torch.allclose(columns.mean(1), torch.zeros(len(task.mean)), atol=1e-3)
    assert torch.allclose(columns.std(1, correction=0), torch.ones(len(task.std)), atol=1e-3)


@SUITE.add()
def batches_are_functions_of_seed_and_step(task: Task) -> None:
    first = task.batch(5, 8, seed=3)
    task.batch(900, 8, seed=4)  # other calls in between leave no trace
    torch.manual_seed(1)
    assert equal(task.batch(5, 8, seed=3), first)
    assert not equal(task.batch(6, 8, seed=3)[0], first[0])
    assert not equal(task.batch(5, 8, seed=4)[0], first[0])


@SUITE.add()
def an_epoch_shows_every_sample_once(task: Task) -> None:
    """But for the tail; and another epoch in another order."""
    small = task.subset(train=31)
    drawn = [keys(small.batch(step, 7, 0, augment=False)[0]) for step in range(8)]
    epochs = [[*chain(*drawn[:4])], [*chain(*drawn[4:])]]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 28
        assert set(epoch) <= set(all_keys(small.train))


@SUITE.add(lambda task: task.augment is not None)
def augmentation_keeps_targets(task: Task) -> None:
    """And changes inputs, where there is one."""
    changed, plain = task.batch(0, 16, seed=0), task.batch(0, 16, seed=0, augment=False)
    assert equal(changed[1], plain[1])
    assert not equal(changed[0], plain[0])


@SUITE.add()
def subsets_are_nested(task: Task) -> None:
    """And leave the other splits as they are."""
    small, smaller = task.subset(train=20, validation=3), task.subset(train=10)
    assert (small.train.size, small.validation.size) == (20, 3)
    assert smaller.validation is task.validation
    assert small.test is task.test
    assert all_keys(small.train)[:10] == all_keys(smaller.train)


def _has_known_answers(task: Task) -> bool:
    """Whether outputs that give the targets can be made: one tensor of classes, or of values."""
    targets = next(task.validation.batches(1))[1]
    return isinstance(targets, Tensor) and task.outputs not in ("boxes", "embeddings")


def perfect(task: Task, targets: Tensor) -> Tensor:
    """Outputs that give the targets: sure logits of classes, in the form of the task's nets, or the values."""
    if targets.is_floating_point():
        return targets.clone()
    logits = 100 * torch.nn.functional.one_hot(targets.clamp(min=0), task.classes).float()
    return logits.movedim(-1, 1) if task.outputs == "maps" else logits


@SUITE.add(_has_known_answers)
def a_perfect_answer_is_the_best(task: Task) -> None:
    """The loss of a perfect answer is near its least, and its metric better than that of a wrong one."""
    targets = next(task.validation.batches(8))[1]
    right = perfect(task, targets)
    wrong = -right
    losses = [float(task.loss_of(outputs, task.targets_for(outputs, targets))) for outputs in (right, wrong)]
    assert abs(losses[0]) < 1e-6 < 0.1 < losses[1]
    best, worse = (scored(task, outputs, targets) for outputs in (right, wrong))
    sign = task.metric.sign
    assert sign * best < sign * worse
    assert abs(best - {"min": 0.0, "max": 1.0}[task.metric.better]) < 1e-5, best


def scored(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """The metric over batches of three."""
    score = task.score()
    for start in range(0, len(outputs), 3):
        score.update(outputs[start : start + 3], targets[start : start + 3])
    return float(score.compute())


@SUITE.add(lambda task: bool(task.space))
def the_default_space_learns(task: Task) -> None:
    """The largest and the smallest net of the default space take the example, and a few steps lower the loss."""
    space = SearchSpace(load_preset(task.space).bind(**task.interface))
    few = task.subset(train=64, validation=64)
    supernet = Supernet(space)
    before = [_loss(supernet, few, net) for net in (space.largest, space.smallest)]
    train(supernet, few, steps=10, batch_size=16, lr=1e-3, check=False)
    after = [_loss(supernet, few, net) for net in (space.largest, space.smallest)]
    assert all(new < old < float("inf") for new, old in zip(after, before, strict=True)), (before, after)


def _loss(supernet: Supernet, task: Task, net: Any) -> float:
    """Of the training samples."""
    inputs, targets = next(task.train.batches(64))
    with torch.no_grad():
        prediction = task.prediction(supernet(inputs, architecture=net))
    return float(task.loss_of(prediction, task.targets_for(prediction, targets)))
