"""Finding tasks by name, and the parts that all of them share."""

import hashlib

import pytest
import torch
from torch import Tensor

from nas.errors import UserError
from nas.tasks import Split, Task, load_task, task_names
from nas.tasks.augment import chain, half_of, mirror, shift
from nas.tasks.images import fit_normalise
from nas.tasks.registry import register


def test_names() -> None:
    assert task_names() == sorted(task_names())
    assert {"digits", "fashion-mnist", "image-folder"} <= set(task_names())


def test_an_unknown_name_lists_the_nearest_first() -> None:
    with pytest.raises(UserError, match="unknown task 'fashon-mnist'; valid: fashion-mnist, "):
        load_task("fashon-mnist:somewhere")


def test_a_name_is_registered_once() -> None:
    load_task("digits")
    with pytest.raises(ValueError, match="registered twice"):
        register("digits")(load_task_of_nobody)


def test_digits_takes_no_argument() -> None:
    with pytest.raises(UserError, match="takes no argument"):
        load_task("digits:8x8")


def test_the_digits_split_never_changes() -> None:
    """Numbers of another day are only comparable on the same split: this digest may not change."""
    task = load_task("digits")
    assert [len(task.train), len(task.validation), len(task.test)] == [1079, 359, 359]
    assert [int(split.targets.bincount().min()) for split in (task.train, task.validation, task.test)] == [104, 35, 35]
    digest = hashlib.sha256(b"".join(s.raw.numpy().tobytes() for s in (task.train, task.validation, task.test)))
    assert digest.hexdigest()[:16] == "d691d08fc4d08801"


def test_a_split_without_normalisation_is_floats() -> None:
    split = Split(torch.tensor([[1], [2]]), torch.tensor([0, 1]))
    assert torch.equal(split.inputs, torch.tensor([[1.0], [2.0]]))


def test_normalisation_of_known_pixels() -> None:
    images = torch.tensor([[[[0, 4]], [[7, 7]]], [[[8, 4]], [[7, 7]]]], dtype=torch.uint8)  # (2, 2, 1, 2)
    normalise = fit_normalise(images)
    assert normalise.mean == (4.0, 7.0)
    assert normalise.std == (pytest.approx(8**0.5), 1.0)  # a constant channel is not divided by zero
    assert normalise(images)[:, 1].abs().max() == 0
    assert "mean (4, 7)" in str(normalise)


def test_shifts_move_an_image_by_every_offset_and_fill_with_zeros() -> None:
    images = torch.zeros(400, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 9
    moved = shift(1)(images, torch.Generator().manual_seed(0))
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert moved.sum() == images.sum()
    ones = torch.ones(50, 3, 4, 4, dtype=torch.uint8)
    assert shift(1)(ones, torch.Generator().manual_seed(0)).min() == 0
    assert shift(1, edge="replicate")(ones, torch.Generator().manual_seed(0)).min() == 1


def test_half_of_changes_about_half() -> None:
    images = torch.arange(3, dtype=torch.uint8).expand(1000, 1, 1, 3)
    flipped = half_of(mirror)(images, torch.Generator().manual_seed(0))[:, 0, 0]
    mirrored = (flipped == torch.tensor([2, 1, 0])).all(1)
    assert torch.equal(mirrored, ~(flipped == torch.tensor([0, 1, 2])).all(1))
    assert 400 < int(mirrored.sum()) < 600


def test_a_chain_applies_all_steps() -> None:
    row = torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)
    both = chain(mirror, double)
    assert both(row, torch.Generator()).flatten().tolist() == [6, 4, 2]


def double(images: Tensor, _: torch.Generator) -> Tensor:
    return images * 2


def load_task_of_nobody(_: str | None) -> Task:
    raise AssertionError("it is never called")
