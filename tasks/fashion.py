"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747): clothes, 28 x 28 grey pixels, 10 classes."""

import hashlib
import os
import urllib.request
from pathlib import Path

from torch import Tensor

from ..errors import UserError
from ..files import write_atomic
from .augment import half_of, shift
from .idx import read_idx, unpack
from .images import ImageSplits, Samples, hold_out, image_task
from .registry import register
from .task import Task

LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SOURCE = (
    "Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747), official test split; one training image in "
    "twelve, stratified by class, is the validation split"
)
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")

# SHA-256 of the unpacked files: Debian packs the same bytes with other gzip headers.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@register("fashion-mnist")
def load(argument: str | None) -> Task:
    """Fashion-MNIST: 55,000 to train, 5,000 to validate, 10,000 to test. `argument`: a folder with the idx files."""
    folder = find_folder() if argument is None else Path(argument).expanduser()
    rest = _read_samples(folder, "train")
    train, validation = hold_out(rest, len(rest[1]) // 12)
    splits = ImageSplits(train=train, validation=validation, test=_read_samples(folder, "t10k"))
    augment = half_of(shift(2))  # every image shifted, or mirrored too, costs points in a short training
    name = "fashion-mnist" if argument is None else f"fashion-mnist:{argument}"
    return image_task(name, LABELS, splits, space="vit-fashion", source=SOURCE, augment=augment)


def find_folder() -> Path:
    """The first folder with all files: $NAS_DATA/fashion-mnist, Debian's, the cache; else the cache, downloaded."""
    cache = Path.home() / ".cache" / "nas" / "data" / "fashion-mnist"
    data = os.environ.get("NAS_DATA")
    candidates = [Path(data) / "fashion-mnist"] if data else []
    for folder in [*candidates, DEBIAN, cache]:
        if all(_file(folder, name) for name in SHA256):
            return folder
    for name in SHA256:
        if not _file(cache, name):
            write_atomic(cache / f"{name}.gz", _download(name))
    return cache


def fetch(url: str) -> bytes:
    """The bytes at `url`."""
    with urllib.request.urlopen(url, timeout=60) as response:
        return bytes(response.read())


def _download(name: str) -> bytes:
    try:
        data = fetch(f"{URL}/{name}.gz")
    except OSError as error:
        raise UserError(
            f"fashion-mnist is not on this machine and the download failed ({error}); install Debian's package "
            "dataset-fashion-mnist, or give a folder with the four idx files (fashion-mnist:FOLDER, or "
            "NAS_DATA=DIR with DIR/fashion-mnist), or try again with a network"
        ) from error
    if hashlib.sha256(unpack(data, f"{name}.gz")).hexdigest() != SHA256[name]:
        raise UserError(f"{URL}/{name}.gz is not the published file (its SHA-256 differs); give a folder instead")
    return data


def _file(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, plain or gzipped."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(folder: Path, name: str) -> Tensor:
    path = _file(folder, name)
    if path is None:
        raise UserError(f"no {name} (or {name}.gz) in {folder}; the folder must hold {', '.join(SHA256)}")
    return read_idx(path)


def _read_samples(folder: Path, part: str) -> Samples:
    images, targets = _read(folder, f"{part}-images-idx3-ubyte"), _read(folder, f"{part}-labels-idx1-ubyte").long()
    if images.dim() != 3 or images.shape[:1] != targets.shape:
        shapes = f"images {tuple(images.shape)} and labels {tuple(targets.shape)}"
        raise UserError(f"{folder}: {part} has {shapes}; they must be (N, H, W) and (N,)")
    if len(targets) == 0 or targets.max() >= len(LABELS):
        raise UserError(f"{folder}: {part} must have labels from 0 to {len(LABELS) - 1}, one for each image")
    return images[:, None], targets
