"""Text on disk, as bytes in windows of one length: what tasks of text share. Nothing is held in memory."""

import hashlib
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from .batches import Selection
from .data import Rows
from .outputs import IGNORED

LENGTH = 64
"""Bytes of a window."""
EVALUATED = 512
"""Windows of the validation and test splits, drawn once: more change no order of nets, and cost each evaluation."""
BYTES = 256
SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
Reader = Callable[[Path, int, int, int], tuple[NDArray[Any], NDArray[Any]]]
"""File, begin and end of a window, and end of its part of the file, to at most `LENGTH` inputs and targets."""


@dataclass(frozen=True)
class Part:
    """Bytes of a file, from `start` to before `stop`."""

    path: Path
    start: int
    stop: int

    @property
    def windows(self) -> int:
        """Windows with at least one byte to predict from the one before."""
        return -(-(self.stop - self.start - 1) // LENGTH)


class Windows:
    """A map-style dataset: inputs (LENGTH,) and targets (LENGTH,), int64; a short window ends in 0 and ignored targets.

    Windows do not overlap, and each is read when it is asked for: files may be larger than memory.
    """

    def __init__(self, parts: Sequence[Part], read: Reader) -> None:
        self.parts, self.read = [part for part in parts if part.windows > 0], read
        self.ends = np.array([*accumulate(part.windows for part in self.parts)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = int(np.searchsorted(self.ends, index, side="right"))
        part = self.parts[place]
        begin = part.start + LENGTH * (index - int(self.ends[place]) + part.windows)
        inputs, targets = self.read(part.path, begin, min(begin + LENGTH, part.stop), part.stop)
        return _padded(inputs, 0), _padded(targets, IGNORED)


def _padded(values: NDArray[Any], end: int) -> Tensor:
    result = torch.full((LENGTH,), end)
    result[: len(values)] = torch.from_numpy(values.astype(np.int64))
    return result


def bytes_of(path: Path, begin: int, end: int) -> NDArray[np.uint8]:
    """The bytes of a file from `begin` to before `end`."""
    with path.open("rb") as file:
        file.seek(begin)
        return np.frombuffer(file.read(end - begin), dtype=np.uint8)


def splits_of(task: str, argument: str | None, read: Reader, pattern: str = "*") -> tuple[dict[str, Any], str]:
    """The three splits of a file or folder (None: Python's standard library), and a phrase that says what they are of.

    pattern: of the files below a folder; hidden ones are left out. Errors: no such file or folder; too little text.
    """
    if argument is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        files, name = sorted(root.glob("*.py")), f"the modules of Python {sysconfig.get_python_version()}'s library"
    else:
        root = Path(argument).expanduser()
        files, name = _files(root, pattern), root.name
    parts = divided(root, files)
    splits = {split: Windows(parts[split], read) for split in SHARES}
    if short := [split for split, windows in splits.items() if not len(windows)]:
        raise UserError(f"task '{task}:{root}' has no text for {', '.join(short)}; it found {len(files)} files")
    select = Selection(inputs=0, target=1)
    rows = {split: Rows(windows, select) for split, windows in splits.items()}
    kept = {s: r if s == "train" else r.first(min(EVALUATED, len(r))) for s, r in rows.items()}
    return kept, f"{name}: {len(files)} files, in windows of {LENGTH} bytes"


def divided(root: Path, files: Sequence[Path]) -> dict[str, list[Part]]:
    """The files, in an order drawn by their names, cut into the three splits: no byte is in two of them.

    Splits take whole files, but for one that lies across the end of a split.
    """
    order = sorted(files, key=lambda file: hashlib.sha256(str(file.relative_to(root)).encode()).digest())
    sizes = [file.stat().st_size for file in order]
    begins = [0, *accumulate(sizes)]
    parts: dict[str, list[Part]] = {}
    for split, (low, high) in SHARES.items():
        first, last = int(low * begins[-1]), int(high * begins[-1])
        parts[split] = [
            Part(file, max(first - begin, 0), min(last - begin, size))
            for file, begin, size in zip(order, begins, sizes, strict=False)
            if begin < last and begin + size > first
        ]
    return parts


def _files(root: Path, pattern: str) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise UserError(f"{root} is no file or folder; name the text to learn from")
    below = ((path, path.relative_to(root).parts) for path in root.rglob(pattern))
    return [path for path, parts in below if path.is_file() and not any(part[0] == "." for part in parts)]
