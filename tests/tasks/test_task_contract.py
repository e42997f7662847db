"""Every registered task keeps the contract. A new task is tested by being there; an argument it needs is added here."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from nas.errors import UserError
from nas.tasks import Split, Task, load_task, task_names
from nas.tasks.fashion import DEBIAN


def _make_images(root: Path) -> str:
    """60 images in three classes."""
    generator = torch.Generator().manual_seed(0)
    for index in range(60):
        pixels = torch.randint(256, (20, 24, 3), generator=generator, dtype=torch.uint8)
        path = root / f"class{index % 3}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path)
    return f"image-folder:{root}?size=16"


@pytest.fixture(scope="module", params=task_names())
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "fashion-mnist" and not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed, and tests do not download")
    return _make_images(tmp_path_factory.mktemp("images")) if request.param == "image-folder" else request.param


@pytest.fixture(scope="module")
def task(name: str) -> Task:
    return load_task(name)


def _splits(task: Task) -> list[Split]:
    return [task.train, task.validation, task.test]


def _keys(samples: Tensor) -> set[bytes]:
    return {sample.numpy().tobytes() for sample in samples}


def test_the_name_loads_the_task_again(task: Task, name: str) -> None:
    assert task.name == name


def test_splits_are_disjoint(task: Task) -> None:
    train, validation, test = (_keys(split.raw) for split in _splits(task))
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_splits_are_fixed(task: Task, name: str) -> None:
    for one, other in zip(_splits(task), _splits(load_task(name)), strict=True):
        assert torch.equal(one.raw, other.raw)
        assert torch.equal(one.targets, other.targets)


def test_shapes_and_types(task: Task) -> None:
    for split in _splits(task):
        inputs, targets = next(split.batches(7))
        assert len(split) == len(split.raw) == len(split.targets) > 0
        assert inputs.shape == (min(7, len(split)), *task.input_shape)
        assert inputs.dtype == task.example.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert not inputs.requires_grad
    assert task.example.shape == (1, *task.input_shape)


def test_batches_walk_over_a_split_once_in_order(task: Task) -> None:
    small = task.subset(validation=10).validation
    batches = list(small.batches(4))
    assert [len(targets) for _, targets in batches] == [4] * (len(small) // 4) + [len(small) % 4] * (len(small) % 4 > 0)
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), small.inputs)
    assert torch.equal(torch.cat([targets for _, targets in batches]), small.targets)


def test_every_class_is_in_train_and_no_target_is_outside(task: Task) -> None:
    assert set(task.train.targets.tolist()) == set(range(task.classes))
    for split in _splits(task):
        assert set(split.targets.tolist()) <= set(range(task.classes))


def test_train_inputs_are_normalised(task: Task) -> None:
    if not task.mean:
        pytest.skip("no normalisation")
    inputs = task.train.inputs.transpose(0, 1).flatten(1)
    assert torch.allclose(inputs.mean(1), torch.zeros(len(inputs)), atol=1e-3)
    assert torch.allclose(inputs.std(1), torch.ones(len(inputs)), atol=1e-3)
    assert len(task.mean) == len(task.std) == len(inputs)


def test_a_batch_is_a_pure_function_of_seed_and_step(task: Task) -> None:
    first = task.batch(5, 8, seed=3)
    task.batch(900, 8, seed=4)  # other calls in between leave no trace
    torch.manual_seed(1)
    again = task.batch(5, 8, seed=3)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].dtype == torch.float32
    assert first[0].shape == (8, *task.input_shape)
    assert not torch.equal(first[0], task.batch(6, 8, seed=3)[0])
    assert not torch.equal(first[0], task.batch(5, 8, seed=4)[0])


def test_an_epoch_shows_every_sample_once_but_for_the_tail(task: Task) -> None:
    small = task.subset(train=31)
    steps = 4
    epochs = [
        [key for step in range(steps) for key in _rows(small.batch(epoch * steps + step, 7, 0, augment=False)[0])]
        for epoch in range(2)
    ]
    assert epochs[0] != epochs[1]
    for keys in epochs:
        assert len(keys) == len(set(keys)) == 28
        assert set(keys) <= _keys(small.train.inputs)


def _rows(inputs: Tensor) -> list[bytes]:
    return [sample.numpy().tobytes() for sample in inputs]


def test_augmentation_keeps_targets_and_changes_inputs(task: Task) -> None:
    if task.augment is None:
        pytest.skip("no augmentation")
    changed, targets = task.batch(0, 16, seed=0)
    plain, plain_targets = task.batch(0, 16, seed=0, augment=False)
    assert torch.equal(targets, plain_targets)
    assert not torch.equal(changed, plain)


def test_subsets_are_nested_and_leave_the_rest(task: Task) -> None:
    small, smaller = task.subset(train=20, validation=3), task.subset(train=10)
    assert (len(small.train), len(small.validation), len(small.test)) == (20, 3, len(task.test))
    assert torch.equal(small.train.raw[:10], smaller.train.raw)
    assert _keys(small.train.raw) <= _keys(task.train.raw)


def _scored(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """The metric over batches of three."""
    score = task.score()
    for start in range(0, len(outputs), 3):
        score.update(outputs[start : start + 3], targets[start : start + 3])
    return score.compute()


@pytest.mark.parametrize("size", [0, 10**9])
def test_an_impossible_batch_size_is_refused(task: Task, size: int) -> None:
    with pytest.raises(UserError, match="batch size"):
        task.batch(0, size, 0)


def test_loss_and_metric_agree_on_a_perfect_answer(task: Task) -> None:
    targets = task.validation.targets[:8]
    outputs = torch.nn.functional.one_hot(targets, task.classes).float() * 100
    assert _scored(task, outputs, targets) == 1.0
    assert task.loss(outputs, targets).item() == pytest.approx(0, abs=1e-6)
    assert task.loss_of(outputs, targets, 0.1).item() > 1
    assert _scored(task, -outputs, targets) == 0.0
    assert task.metric.name
    assert task.source
    assert task.preprocessing
    assert task.space
