"""The idx reader on bytes made here, and the ways to Fashion-MNIST."""

import gzip
import struct
import urllib.error
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.errors import UserError
from nas.tasks import fashion, load_task
from nas.tasks.idx import parse_idx, read_idx


def _idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def test_a_known_file() -> None:
    data = bytes.fromhex("00000802 00000002 00000003 010203 0405ff".replace(" ", ""))
    assert parse_idx(data, "x").tolist() == [[1, 2, 3], [4, 5, 255]]


@given(arrays(np.uint8, st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)))
def test_what_is_written_is_read(values: np.ndarray) -> None:
    assert torch.equal(parse_idx(_idx(values), "x"), torch.from_numpy(values))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (b"\x89PNG....", "not an idx file of unsigned bytes: it starts with 89 50 4e 47"),
        (b"\0\0\x0d\x01\0\0\0\0", "not an idx file of unsigned bytes"),  # floats
        (b"\0\0\x08\x03\0\0", "ends within its header of 16 bytes"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", r"holds 4 values where its header promises 5 \(5\)"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", "holds 4 values"),
    ],
)
def test_a_broken_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=f"^labels.*{message}"):
        parse_idx(data, "labels")


def test_gzip_is_seen_by_its_content(tmp_path: Path) -> None:
    values = np.arange(6).reshape(2, 3)
    (tmp_path / "packed").write_bytes(gzip.compress(_idx(values)))
    (tmp_path / "plain.gz").write_bytes(_idx(values))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(_idx(values))[:-9])
    assert read_idx(tmp_path / "packed").tolist() == read_idx(tmp_path / "plain.gz").tolist() == values.tolist()
    with pytest.raises(UserError, match=r"cut\.gz is a broken gzip file"):
        read_idx(tmp_path / "cut.gz")


def _write_fashion(folder: Path, labels: int = 10, pack: Callable[[bytes], bytes] = gzip.compress) -> None:
    """240 + 40 random images of 5 x 5 pixels."""
    random = np.random.default_rng(0)
    ending = ".gz" if pack is gzip.compress else ""
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", 240), ("t10k", 40)):
        images, targets = random.integers(0, 256, (n, 5, 5)), np.arange(n) % labels
        (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(pack(_idx(images)))
        (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(pack(_idx(targets)))


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_folder_of_the_user(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    _write_fashion(tmp_path, pack=pack)
    task = load_task(f"fashion-mnist:{tmp_path}")
    assert [len(task.train), len(task.validation), len(task.test)] == [220, 20, 40]
    assert task.validation.targets.bincount().tolist() == [2] * 10
    assert task.input_shape == (1, 5, 5)


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no train-images-idx3-ubyte"):
        load_task(f"fashion-mnist:{tmp_path}")


def test_labels_outside_the_classes_are_refused(tmp_path: Path) -> None:
    _write_fashion(tmp_path, labels=12)
    with pytest.raises(UserError, match="labels from 0 to 9"):
        load_task(f"fashion-mnist:{tmp_path}")


def test_images_and_labels_must_agree(tmp_path: Path) -> None:
    _write_fashion(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(_idx(np.zeros(3)))
    with pytest.raises(UserError, match=r"train has images \(240, 5, 5\) and labels \(3,\)"):
        load_task(f"fashion-mnist:{tmp_path}")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the data; its home."""
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("NAS_DATA", raising=False)
    return tmp_path


def _offline(_: str) -> bytes:
    raise urllib.error.URLError("no network")


@pytest.mark.usefixtures("bare")
def test_offline_says_the_ways_to_get_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "fetch", _offline)
    with pytest.raises(UserError, match=r"no network.*dataset-fashion-mnist.*fashion-mnist:FOLDER.*NAS_DATA"):
        load_task("fashion-mnist")


def test_folders_are_tried_in_order(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "fetch", _offline)
    cache, debian, data = bare / ".cache/nas/data/fashion-mnist", bare / "debian", bare / "data/fashion-mnist"
    monkeypatch.setenv("NAS_DATA", str(bare / "data"))
    for folder in (cache, debian, data):
        _write_fashion(folder)
        assert fashion.find_folder() == folder


def test_a_download_is_checked_and_kept(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "fetch", lambda _: gzip.compress(b"other"))
    with pytest.raises(UserError, match="not the published file"):
        load_task("fashion-mnist")
    assert not list(bare.rglob("*ubyte*"))
    _write_fashion(bare / "published")
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return (bare / "published" / url.rpartition("/")[2]).read_bytes()

    digests = {name: _sha256(bare / "published" / f"{name}.gz") for name in fashion.SHA256}
    monkeypatch.setattr(fashion, "fetch", fetch)
    monkeypatch.setattr(fashion, "SHA256", digests)
    for _ in range(2):  # the second call finds the cache
        assert len(load_task("fashion-mnist").test) == 40
    assert len(asked) == 4
    assert all(url.startswith("https://") for url in asked)


def _sha256(path: Path) -> str:
    return sha256(gzip.decompress(path.read_bytes())).hexdigest()


def test_the_published_data() -> None:
    if not fashion.DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    digests = {name: _sha256(fashion.DEBIAN / f"{name}.gz") for name in fashion.SHA256}
    assert digests == fashion.SHA256
    task = load_task(f"fashion-mnist:{fashion.DEBIAN}")
    assert [len(task.train), len(task.validation), len(task.test)] == [55000, 5000, 10000]
    assert task.validation.targets.bincount().tolist() == [500] * 10
    assert task.labels[int(task.test.targets[0])] == "Ankle boot"
    assert task.mean[0] / 255 == pytest.approx(0.2860, abs=1e-3)  # the values commonly stated for the 60,000 images
    assert task.std[0] / 255 == pytest.approx(0.3530, abs=1e-3)
