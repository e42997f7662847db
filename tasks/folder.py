"""A user's own images: a folder with one sub-folder for each class."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UserError, unknown
from .augment import chain, half_of, mirror, shift
from .images import ImageSplits, Samples, image_task
from .registry import register
from .task import Task

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Options:
    """How images are read: `size` x `size` pixels, 1 (grey) or 3 (RGB) channels."""

    size: int = 64
    channels: int = 3


@dataclass(frozen=True)
class Images:
    """Loaded images with their `places` (N,) in [0, 1), drawn by each file's content: renaming or adding files moves no
    image from one split to another, and copies of an image never end up on two sides."""

    samples: Samples
    places: Tensor

    def between(self, low: float, high: float) -> Samples:
        """The images whose place is in [low, high)."""
        chosen = (self.places >= low) & (self.places < high)
        return self.samples[0][chosen], self.samples[1][chosen]


@register("image-folder")
def load(argument: str | None) -> Task:
    """Images below PATH, or PATH/train, PATH/validation (or val), PATH/test. `argument`: PATH[?size=64&channels=3]."""
    if not argument:
        raise UserError("task 'image-folder' needs a folder with one sub-folder for each class: image-folder:PATH")
    root, options = parse_argument(argument)
    if not root.is_dir():
        raise UserError(f"image-folder: {root} is not a folder")
    labels, splits, made = _read_splits(root, options)
    _check(labels, splits)
    augment = chain(shift(options.size // 16, edge="replicate"), half_of(mirror))
    source = f"images in {root.name}, {made}"
    return image_task(f"image-folder:{argument}", labels, splits, space="vit-image", source=source, augment=augment)


def parse_argument(argument: str) -> tuple[Path, Options]:
    """`PATH?size=64&channels=3` to the path and the options."""
    path, _, query = argument.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in ("size", "channels"):
            raise unknown("image-folder option", name, ["size", "channels"])
    size, channels = given.get("size", "64"), given.get("channels", "3")
    if not (size.isdecimal() and 8 <= int(size) <= 1024):
        raise UserError(f"image-folder: size must be a whole number from 8 to 1024, not {size!r}")
    if channels not in ("1", "3"):
        raise UserError(f"image-folder: channels must be 1 (grey) or 3 (RGB), not {channels!r}")
    return Path(path).expanduser(), Options(int(size), int(channels))


def read_images(folder: Path, labels: tuple[str, ...], options: Options) -> Images:
    """Every image below `folder`/`label`, in the order of the labels and then of the paths."""
    found = [(path, target) for target, label in enumerate(labels) for path in _files(folder / label)]
    shape = options.channels, options.size, options.size
    pixels = torch.empty(len(found), *shape, dtype=torch.uint8)
    places = torch.empty(len(found), dtype=torch.float64)

    def read(index: int) -> None:
        data = found[index][0].read_bytes()
        places[index] = int.from_bytes(sha256(data).digest()[:6], "big") / 2**48
        pixels[index] = _decode(data, found[index][0], options)

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside of the interpreter lock
        list(pool.map(read, range(len(found))))
    return Images((pixels, torch.tensor([target for _, target in found], dtype=torch.int64)), places)


def _decode(data: bytes, path: Path, options: Options) -> Tensor:
    """(C, size, size) uint8: upright, the largest centred square, scaled."""
    try:
        with Image.open(BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert(_MODES[options.channels])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"image-folder: cannot read the image {path} ({error}); repair or remove it") from error
    square = ImageOps.fit(upright, (options.size, options.size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(square)).view(options.size, options.size, options.channels).permute(2, 0, 1)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.name[0] != ".")


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."))


def _parts(root: Path) -> dict[str, Path]:
    """The split folders of `root`: those that hold sub-folders (a class may be called "test", but it holds images)."""
    names = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
    return {part: root / name for name, part in names.items() if (root / name).is_dir() and _subfolders(root / name)}


def _read_splits(root: Path, options: Options) -> tuple[tuple[str, ...], ImageSplits, str]:
    """Class names, splits, and a phrase that says how the splits were made."""
    parts = _parts(root)
    if parts and "train" not in parts:
        raise UserError(f"image-folder: {root} has {', '.join(parts)} but no train folder; add one")
    parts = parts or {"train": root}
    labels = _subfolders(parts["train"])
    if len(labels) < 2:
        raise UserError(f"image-folder: {parts['train']} has {len(labels)} class folders; at least 2 are needed")
    for folder in parts.values():
        if surplus := set(_subfolders(folder)) - set(labels):
            raise UserError(f"image-folder: {folder} has classes that train lacks: {', '.join(sorted(surplus))}")
    read = {part: read_images(folder, labels, options) for part, folder in parts.items()}
    return labels, *_split(read["train"], read.get("validation"), read.get("test"))


def _split(train: Images, validation: Images | None, test: Images | None) -> tuple[ImageSplits, str]:
    """Three splits from the folders there are."""
    if validation and test:
        return ImageSplits(train=train.samples, validation=validation.samples, test=test.samples), "splits as given"
    if validation:
        halves = validation.between(0, 0.5), validation.between(0.5, 1)
        return ImageSplits(train=train.samples, validation=halves[0], test=halves[1]), "test: half of validation"
    if test:
        parts = train.between(0, 0.9), train.between(0.9, 1)
        return ImageSplits(train=parts[0], validation=parts[1], test=test.samples), "validation: a tenth of train"
    thirds = train.between(0, 0.8), train.between(0.8, 0.9), train.between(0.9, 1)
    return ImageSplits(train=thirds[0], validation=thirds[1], test=thirds[2]), "split 80/10/10 by content"


def _check(labels: tuple[str, ...], splits: ImageSplits) -> None:
    """Every class can be learnt and every split says something."""
    seen = set(splits.train[1].tolist())
    if absent := [label for target, label in enumerate(labels) if target not in seen]:
        raise UserError(f"image-folder: no training image of {', '.join(absent)}; add images or remove the folder")
    for name, samples in (("validation", splits.validation), ("test", splits.test)):
        if len(samples[1]) == 0:
            raise UserError(f"image-folder: no image for the {name} split; add images or a folder {name}/")
