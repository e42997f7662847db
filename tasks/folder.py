"""A user's own images: a folder with one sub-folder for each class."""

import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl

import torch
from torch import Tensor

from ..errors import UserError, unknown
from .augment import chain, half_of, mirror, shift
from .images import ImageSplits, Samples, image_task
from .pixels import ENDINGS, read_pixels
from .registry import register
from .task import Task


@dataclass(frozen=True)
class Options:
    """How images are read: `size` x `size` pixels, 1 (grey) or 3 (RGB) channels."""

    size: int = 64
    channels: int = 3


@dataclass(frozen=True)
class Images:
    """Loaded images with their `places` (N,) in [0, 1), drawn by each file's content: renaming or adding files moves no
    image from one split to another (but those of rare classes, see `divided`), and copies never end up on two sides."""

    samples: Samples
    places: Tensor

    def between(self, low: float, high: float) -> Samples:
        """The images whose place is in [low, high)."""
        chosen = (self.places >= low) & (self.places < high)
        return self.samples[0][chosen], self.samples[1][chosen]

    def divided(self, *edges: float) -> list[Samples]:
        """The images between each two edges, with every class in every part that it has images enough for.

        Parts that come first are served first. Where chance left a class out of one, the nearest of its images moves.
        """
        parts = list(pairwise(edges))
        places = self.places.clone()
        for target in set(self.samples[1].tolist()):
            _serve(places, self.samples[1] == target, parts)
        return [replace(self, places=places).between(low, high) for low, high in parts]


def _serve(places: Tensor, members: Tensor, parts: list[tuple[float, float]]) -> None:
    """Change `places` until each part holds one of the `members`, as far as there are enough; copies go together."""
    for index, (low, high) in enumerate(parts):
        own = torch.tensor(sorted(set(places[members].tolist())), dtype=places.dtype)
        inside = [int(((own >= a) & (own < b)).sum()) for a, b in parts]
        # A part that comes later gives its last one.
        donors = [i for i, count in enumerate(inside) if count > (1 if i < index else 0) and i != index]
        if inside[index] or not donors:
            continue
        a, b = parts[max(donors, key=lambda i: inside[i])]
        given = own[(own >= a) & (own < b)]
        nearest = given[(given - (low + high) / 2).abs().argmin()]
        places[places == nearest] = (low + high) / 2


@register("image-folder")
def load(argument: str | None) -> Task:
    """Images below PATH, or PATH/train, PATH/validation (or val), PATH/test. `argument`: PATH[?size=64&channels=3]."""
    if not argument:
        raise UserError("task 'image-folder' needs a folder with one sub-folder for each class: image-folder:PATH")
    root, options = parse_argument(argument)
    if not root.is_dir():
        raise UserError(f"image-folder: {root} is not a folder")
    labels, splits, made = _read_splits(root, options)
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
    results = [(path, target) for target, label in enumerate(labels) for path in _images(folder / label)]
    shape = options.channels, options.size, options.size
    pixels = torch.empty(len(results), *shape, dtype=torch.uint8)
    places = torch.empty(len(results), dtype=torch.float64)

    def read(index: int) -> None:
        data = results[index][0].read_bytes()
        places[index] = int.from_bytes(sha256(data).digest()[:6], "big") / 2**48
        pixels[index] = read_pixels(data, results[index][0], options.size, options.channels)

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside of the interpreter lock
        list(pool.map(read, range(len(results))))
    return Images((pixels, torch.tensor([target for _, target in results], dtype=torch.int64)), places)


def _files(folder: Path) -> list[Path]:
    """Every file below `folder` that is not hidden, nor in a hidden folder."""
    below = ((path, path.relative_to(folder).parts) for path in folder.rglob("*"))
    return sorted(path for path, parts in below if not any(part[0] == "." for part in parts) and path.is_file())


def _images(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if _is_image(path)]


def _is_image(path: Path) -> bool:
    return path.name[0] != "." and path.suffix.lower() in ENDINGS


def _skipped(folders: Iterable[Path], labels: tuple[str, ...]) -> str:
    """What lies in the class folders and is not read, or is an image outside of them; empty if nothing is."""
    others = [
        *(path for folder in folders for name in labels for path in _files(folder / name) if not _is_image(path)),
        *(path for folder in folders for path in folder.iterdir() if path.is_file() and _is_image(path)),
    ]
    if not others:
        return ""
    counts = Counter(path.suffix.lower() or "no ending" for path in others)
    kinds = ", ".join(f"{count} x {ending}" for ending, count in sorted(counts.items()))
    return f"{len(others)} file{'s' * (len(others) > 1)} skipped ({kinds}, such as {min(others)})"


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
    skipped = _skipped(parts.values(), labels)
    read = {part: read_images(folder, labels, options) for part, folder in parts.items()}
    splits, made = _split(read["train"], read.get("validation"), read.get("test"))
    _check(labels, splits, skipped)
    remarks = [skipped, *_absent(labels, splits)]
    for remark in filter(None, remarks):
        warnings.warn(f"image-folder: {root}: {remark}", stacklevel=4)
    return labels, splits, "; ".join([made, *filter(None, remarks)])


def _split(train: Images, validation: Images | None, test: Images | None) -> tuple[ImageSplits, str]:
    """Three splits from the folders there are."""
    if validation and test:
        return ImageSplits(train=train.samples, validation=validation.samples, test=test.samples), "splits as given"
    if validation:
        halves = validation.divided(0, 0.5, 1)
        return ImageSplits(train=train.samples, validation=halves[0], test=halves[1]), "test: half of validation"
    if test:
        parts = train.divided(0, 0.9, 1)
        return ImageSplits(train=parts[0], validation=parts[1], test=test.samples), "validation: a tenth of train"
    thirds = train.divided(0, 0.8, 0.9, 1)
    return ImageSplits(train=thirds[0], validation=thirds[1], test=thirds[2]), "split 80/10/10 by content"


def _without(labels: tuple[str, ...], samples: Samples) -> list[str]:
    """The classes that have no image there."""
    seen = set(samples[1].tolist())
    return [label for target, label in enumerate(labels) if target not in seen]


def _absent(labels: tuple[str, ...], splits: ImageSplits) -> list[str]:
    lists = {"validation": _without(labels, splits.validation), "test": _without(labels, splits.test)}
    return [f"no image of {', '.join(absent)} for the {name} split" for name, absent in lists.items() if absent]


def _check(labels: tuple[str, ...], splits: ImageSplits, skipped: str) -> None:
    """Every class can be learnt and every split says something."""
    if absent := _without(labels, splits.train):
        also = f" ({skipped})" if skipped else ""
        raise UserError(
            f"image-folder: no training image of {', '.join(absent)}{also}; add images or remove the folder"
        )
    for name, samples in (("validation", splits.validation), ("test", splits.test)):
        if len(samples[1]) == 0:
            raise UserError(f"image-folder: no image for the {name} split; add images or a folder {name}/")
