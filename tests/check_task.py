"""What every task keeps, whatever its data: plain functions of a loaded task, which raise AssertionError."""

from collections.abc import Iterator
from itertools import chain, combinations, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

import nas
from nas.search_space.space import SearchSpace
from nas.tasks import Split, Task
from nas.tasks.outputs import IGNORED

SPLITS = ("train", "validation", "test")
MOST = 1000
"""Samples that are looked at where a split is not in memory."""


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


def check_splits_are_disjoint(task: Task) -> None:
    own = {name: set(all_keys(data)) for name, data in splits(task).items()}
    for one, other in combinations(own, 2):
        assert not own[one] & own[other], f"{one} and {other} share samples"


def check_splits_are_fixed(task: Task, again: Task) -> None:
    """again: the same task, loaded once more."""
    assert task.digest == again.digest
    for name, data in splits(task).items():
        for one, other in zip(batches(data), batches(splits(again)[name]), strict=True):
            assert equal(one, other), f"{name} is not the same when it is loaded again"


def check_forms(task: Task) -> None:
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


def check_targets_are_classes(task: Task) -> None:
    """Of targets that are whole numbers: none is outside of the classes, and each label is among those of train."""
    seen: dict[str, set[int]] = {}
    for name, data in splits(task).items():
        tensors = [t for _, targets in batches(data) for t in tree_leaves(targets) if not t.is_floating_point()]
        seen[name] = set().union(*(t.unique().tolist() for t in tensors)) - {IGNORED}
        assert seen[name] <= set(range(task.classes)), name
    if task.labels:
        assert seen["train"] == set(range(task.classes))


def check_inputs_are_normalised(task: Task) -> None:
    """Where the task states means and deviations: each channel has mean 0 and deviation 1 over the training split."""
    if task.mean:
        columns = torch.cat([inputs for inputs, _ in batches(task.train)]).transpose(0, 1).flatten(1)
        assert torch.allclose(columns.mean(1), torch.zeros(len(task.mean)), atol=1e-3)
        assert torch.allclose(columns.std(1, correction=0), torch.ones(len(task.std)), atol=1e-3)


def check_batches_are_functions_of_seed_and_step(task: Task) -> None:
    first = task.batch(5, 8, seed=3)
    task.batch(900, 8, seed=4)  # other calls in between leave no trace
    torch.manual_seed(1)
    assert equal(task.batch(5, 8, seed=3), first)
    assert not equal(task.batch(6, 8, seed=3)[0], first[0])
    assert not equal(task.batch(5, 8, seed=4)[0], first[0])


def check_an_epoch_shows_every_sample_once(task: Task) -> None:
    """But for the tail; and another epoch in another order."""
    small = task.subset(train=31)
    drawn = [keys(small.batch(step, 7, 0, augment=False)[0]) for step in range(8)]
    epochs = [[*chain(*drawn[:4])], [*chain(*drawn[4:])]]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 28
        assert set(epoch) <= set(all_keys(small.train))


def check_augmentation_keeps_targets(task: Task) -> None:
    """And changes inputs, where there is one."""
    if task.augment is not None:
        changed, plain = task.batch(0, 16, seed=0), task.batch(0, 16, seed=0, augment=False)
        assert equal(changed[1], plain[1])
        assert not equal(changed[0], plain[0])


def check_subsets_are_nested(task: Task) -> None:
    """And leave the other splits as they are."""
    small, smaller = task.subset(train=20, validation=3), task.subset(train=10)
    assert (small.train.size, small.validation.size) == (20, 3)
    assert smaller.validation is task.validation
    assert small.test is task.test
    assert all_keys(small.train)[:10] == all_keys(smaller.train)


def perfect(task: Task, targets: Tensor) -> Tensor:
    """Outputs that give the targets: sure logits of classes, in the form of the task's nets, or the values."""
    if targets.is_floating_point():
        return targets.clone()
    logits = 100 * torch.nn.functional.one_hot(targets.clamp(min=0), task.classes).float()
    return logits.movedim(-1, 1) if task.outputs == "maps" else logits


def check_a_perfect_answer_is_the_best(task: Task) -> None:
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


def check_the_default_space_learns(task: Task) -> None:
    """The largest and the smallest net of the default space take the example, and a few steps lower the loss."""
    space = SearchSpace(nas.load_preset(task.space).bind(**task.interface))
    few = task.subset(train=64, validation=64)
    supernet = nas.Supernet(space)
    before = [_loss(supernet, few, net) for net in (space.largest, space.smallest)]
    nas.train(supernet, few, steps=10, batch_size=16, lr=1e-3)
    after = [_loss(supernet, few, net) for net in (space.largest, space.smallest)]
    assert all(new < old < float("inf") for new, old in zip(after, before, strict=True)), (before, after)


def _loss(supernet: nas.Supernet, task: Task, net: Any) -> float:
    """Of the training samples."""
    inputs, targets = next(task.train.batches(64))
    with torch.no_grad():
        prediction = task.prediction(supernet(inputs, architecture=net))
    return float(task.loss_of(prediction, task.targets_for(prediction, targets)))


CHECKS = (
    check_splits_are_disjoint,
    check_forms,
    check_targets_are_classes,
    check_inputs_are_normalised,
    check_batches_are_functions_of_seed_and_step,
    check_an_epoch_shows_every_sample_once,
    check_augmentation_keeps_targets,
    check_subsets_are_nested,
    check_a_perfect_answer_is_the_best,
)
"""Of a task alone; `check_splits_are_fixed` takes the task loaded twice, `check_the_default_space_learns` trains."""
