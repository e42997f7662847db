"""Image folders made here."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import UserError
from nas.tasks import Task, load_task


def _paint(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    Image.fromarray(pixels.numpy()).save(path)


def _fill(root: Path, count: int, seed: int = 0) -> None:
    for index in range(count):
        _paint(root / ("cat", "dog")[index % 2] / f"{index}.png", seed + index)


def _load(root: Path, options: str = "?size=8") -> Task:
    return load_task(f"image-folder:{root}{options}")


def _sizes(task: Task) -> list[int]:
    return [len(task.train), len(task.validation), len(task.test)]


def _contents(task: Task) -> list[set[bytes]]:
    return [{image.numpy().tobytes() for image in split.raw} for split in (task.train, task.validation, task.test)]


def test_one_folder_is_split_by_content(tmp_path: Path) -> None:
    _fill(tmp_path, 200)
    task = _load(tmp_path)
    assert sum(_sizes(task)) == 200
    assert 145 <= len(task.train) <= 175
    assert task.labels == ("cat", "dog")
    assert task.input_shape == (3, 8, 8)
    assert "80/10/10" in task.source


def test_renaming_and_adding_files_moves_no_image(tmp_path: Path) -> None:
    _fill(tmp_path, 60)
    before = _contents(_load(tmp_path))
    for path in list((tmp_path / "cat").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    _fill(tmp_path / "cat" / "deeper", 20, seed=1000)
    shutil.copy(tmp_path / "dog" / "1.png", tmp_path / "dog" / "copy.png")
    after = _contents(_load(tmp_path))
    assert all(old <= new for old, new in zip(before, after, strict=True))
    assert not after[0] & (after[1] | after[2])


def test_all_three_folders_are_used_as_given(tmp_path: Path) -> None:
    for count, part in ((8, "train"), (4, "val"), (6, "test")):
        _fill(tmp_path / part, count, seed=100 * count)
    assert _sizes(_load(tmp_path)) == [8, 4, 6]


def test_without_test_half_of_validation_is_kept_for_it(tmp_path: Path) -> None:
    _fill(tmp_path / "train", 8)
    _fill(tmp_path / "validation", 40, seed=100)
    task = _load(tmp_path)
    assert len(task.train) == 8
    assert len(task.validation) + len(task.test) == 40
    assert task.source.endswith("test: half of validation")


def test_without_validation_a_tenth_of_train_is_kept_for_it(tmp_path: Path) -> None:
    _fill(tmp_path / "train", 60)
    _fill(tmp_path / "test", 6, seed=100)
    task = _load(tmp_path)
    assert len(task.train) + len(task.validation) == 60
    assert len(task.test) == 6
    assert task.source.endswith("validation: a tenth of train")


def test_images_are_cut_to_a_square_upright_and_in_the_asked_channels(tmp_path: Path) -> None:
    _fill(tmp_path, 60)
    wide = torch.zeros(8, 16, 3, dtype=torch.uint8)
    wide[:, 4:12, 0] = 200  # the centre is red
    wide[:2, 4:12, 0] = 100  # and darker on top
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    for part in ("train", "val", "test"):
        _fill(tmp_path / "given" / part, 4)
        Image.fromarray(wide.numpy()).rotate(180).save(tmp_path / "given" / part / "cat" / "0.png", exif=exif)
    image = _load(tmp_path / "given").train.raw[0]
    assert torch.equal(image, wide[:, 4:12].permute(2, 0, 1))
    assert _load(tmp_path, "?size=9&channels=1").input_shape == (1, 9, 9)
    assert _load(tmp_path, "").input_shape == (3, 64, 64)


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    _fill(tmp_path, 60)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "._1.png").write_bytes(b"not an image")
    (tmp_path / ".cache").mkdir()
    with pytest.warns(UserWarning, match=r"1 file skipped \(1 x .txt"):
        assert sum(_sizes(_load(tmp_path))) == 60


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    _fill(tmp_path, 20)
    whole = (tmp_path / "cat" / "2.png").read_bytes()
    for content in (b"no image", whole[: len(whole) // 2], b""):
        (tmp_path / "cat" / "2.png").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read the image .*2\.png"):
            _load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?sise=8", "unknown image-folder option 'sise'; valid: size, channels"),
        ("?size=big", "size must be a whole number"),
        ("?size=2", "size must be a whole number from 8"),
        ("?channels=4", "channels must be 1"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _load(tmp_path, options)


def test_folders_that_cannot_be_a_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="image-folder:PATH"):
        load_task("image-folder")
    with pytest.raises(UserError, match="is not a folder"):
        _load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="0 class folders"):
        _load(tmp_path)
    _fill(tmp_path / "few" / "train", 2)
    _paint(tmp_path / "few" / "val" / "cat" / "0.png", 5)
    with pytest.raises(UserError, match="no image for the"):
        _load(tmp_path / "few")
    _fill(tmp_path / "some", 40)
    (tmp_path / "some" / "empty").mkdir()
    with pytest.raises(UserError, match="no training image of empty"):
        _load(tmp_path / "some")
    _fill(tmp_path / "parts" / "test", 2)
    with pytest.raises(UserError, match="no train folder"):
        _load(tmp_path / "parts")
    _fill(tmp_path / "parts" / "train", 2)
    _paint(tmp_path / "parts" / "test" / "cow" / "0.png", 0)
    with pytest.raises(UserError, match="classes that train lacks: cow"):
        _load(tmp_path / "parts")


def test_classes_are_counted_right(tmp_path: Path) -> None:
    _fill(tmp_path, 61)
    task = _load(tmp_path)
    total = Counter(task.train.targets.tolist() + task.validation.targets.tolist() + task.test.targets.tolist())
    assert total == {0: 31, 1: 30}


def _given(root: Path) -> Path:
    """A folder whose splits are given; the first training image is `0.*` of class cat."""
    for part in ("train", "val", "test"):
        _fill(root / part, 4)
    (root / "train" / "cat" / "0.png").unlink()
    return root / "train" / "cat"


@pytest.mark.parametrize("name", ["0.png", "0.tif", "0.pgm"])
def test_pixels_of_16_bits_are_scaled(tmp_path: Path, name: str) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    path = _given(tmp_path) / name
    if name.endswith("pgm"):
        path.write_bytes(b"P5 8 8 65535\n" + ramp.astype(">u2").tobytes())
    else:
        Image.fromarray(ramp).save(path)
    image = _load(tmp_path, "?size=8&channels=1").train.raw[0, 0]
    assert torch.equal(image, torch.from_numpy((ramp / 257).round().astype(np.uint8)))


@pytest.mark.parametrize(("kind", "word"), [(np.float32, "floats"), (np.int32, "32-bit integers")])
def test_pixels_of_unknown_range_are_refused_by_name(tmp_path: Path, kind: type, word: str) -> None:
    Image.fromarray(np.ones((8, 8), kind)).save(_given(tmp_path) / "0.tif")
    with pytest.raises(UserError, match=rf"0\.tif are {word}"):
        _load(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    """A black logo: its left half is opaque, its right half transparent."""
    alpha = Image.fromarray(np.repeat([[255] * 4 + [0] * 4], 8, 0).astype(np.uint8))
    logo = Image.new("RGBA", (8, 8))
    logo.putalpha(alpha)
    path = _given(tmp_path) / "0.png"
    if mode == "P":
        indices = Image.fromarray((np.array(alpha) == 0).astype(np.uint8), "P")
        indices.putpalette([0, 0, 0, 0, 0, 0])
        indices.save(path, transparency=1)
    else:
        logo.convert(mode).save(path if mode != "PA" else path.with_suffix(".tif"))
    image = _load(tmp_path).train.raw[0]
    assert not image[..., :4].any()
    assert (image[..., 4:] == 255).all()


def test_hidden_folders_in_a_class_hold_no_images(tmp_path: Path) -> None:
    _fill(tmp_path, 60)
    _paint(tmp_path / "cat" / ".thumbnails" / "1.png", 7)
    assert sum(_sizes(_load(tmp_path))) == 60


def test_what_is_skipped_is_said(tmp_path: Path) -> None:
    _fill(tmp_path, 60)
    (tmp_path / "dog" / "photo.HEIC").write_bytes(b"")
    shutil.copy(tmp_path / "cat" / "0.png", tmp_path / "loose.png")
    Image.open(tmp_path / "cat" / "0.png").convert("L").save(tmp_path / "cat" / "read.jfif", "JPEG")
    with pytest.warns(UserWarning, match=r"2 files skipped \(1 x .heic, 1 x .png, such as .*photo.HEIC\)"):
        task = _load(tmp_path)
    assert sum(_sizes(task)) == 61
    assert "2 files skipped" in task.source


@pytest.mark.parametrize("count", [3, 4, 6])
def test_a_rare_class_is_in_every_split(tmp_path: Path, count: int) -> None:
    _fill(tmp_path, 60)
    for seed in range(5):
        for index in range(count):
            _paint(tmp_path / "rare" / f"{seed}-{index}.png", 10_000 + 100 * seed + index)
        task = _load(tmp_path)
        for split in (task.train, task.validation, task.test):
            assert (split.targets == 2).any()
        shutil.rmtree(tmp_path / "rare")


def test_a_class_too_rare_for_a_split_is_said(tmp_path: Path) -> None:
    _fill(tmp_path, 60)
    _paint(tmp_path / "rare" / "0.png", 5)
    with pytest.warns(UserWarning, match="no image of rare for the validation split"):
        task = _load(tmp_path)
    assert (task.train.targets == 2).sum() == 1
