"""Text on disk in windows of one length: what tasks of text share. Nothing is held in memory."""

import hashlib
import sysconfig
from collections.abc import Callable, Mapping, Sequence
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
"""Bytes of a window, where a task does not say."""
EVALUATED = 512
"""Windows of the validation and test splits, drawn once: more change no order of nets, and cost each evaluation."""
BYTES = 256
SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
Reader = Callable[[Path, int, int, int], tuple[NDArray[Any], NDArray[Any]]]
"""File, begin and end of a window, and end of its part of the file, to the inputs and targets between."""


@dataclass(frozen=True)
class Part:
    """Bytes of a file, or tokens of a file of tokens, from `start` to before `stop`."""

    path: Path
    start: int
    stop: int

    def windows(self, length: int) -> int:
        """Windows with at least one element to predict from the one before."""
        return -(-(self.stop - self.start - 1) // length)


class Windows:
    """A map-style dataset: inputs (length,) and targets (length,), int64; a short window ends in 0 and ignored targets.

    Windows do not overlap, and each is read when it is asked for: files may be larger than memory.
    """

    def __init__(self, parts: Sequence[Part], read: Reader, length: int = LENGTH) -> None:
        self.parts, self.read = [part for part in parts if part.windows(length) > 0], read
        self.length = length
        self.ends = np.array([*accumulate(part.windows(length) for part in self.parts)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = int(np.searchsorted(self.ends, index, side="right"))
        part = self.parts[place]
        begin = part.start + self.length * (index - int(self.ends[place]) + part.windows(self.length))
        inputs, targets = self.read(part.path, begin, min(begin + self.length, part.stop), part.stop)
        return self._padded(inputs, 0), self._padded(targets, IGNORED)

    def _padded(self, values: NDArray[Any], end: int) -> Tensor:
        result = torch.full((self.length,), end)
        result[: len(values)] = torch.from_numpy(values.astype(np.int64))
        return result


def bytes_of(path: Path, begin: int, end: int) -> NDArray[np.uint8]:
    """The bytes of a file from `begin` to before `end`."""
    with path.open("rb") as file:
        file.seek(begin)
        return np.frombuffer(file.read(end - begin), dtype=np.uint8)


@dataclass(frozen=True)
class Corpus:
    """Files by their names below the folders that were given, and a phrase that says what they are."""

    files: Mapping[str, Path]
    title: str

    def divided(self) -> dict[str, list[Part]]:
        """The three splits: no byte is in two of them.

        Files stand in the order of the SHA-256 of their names, which is the same everywhere, and each belongs whole to
        the split in which its middle lies, by bytes. Where that leaves a split without a file (there is one file, or
        one is most of the text), files are cut at the ends of the splits.
        """
        order = sorted(self.files, key=lambda name: hashlib.sha256(name.encode()).digest())
        paths = [self.files[name] for name in order]
        sizes = [path.stat().st_size for path in paths]
        ends = [*accumulate(sizes, initial=0)]
        total = max(ends[-1], 1)
        spans = {split: (int(low * total), int(high * total)) for split, (low, high) in SHARES.items()}
        placed = [*zip(paths, ends, sizes, strict=False)]
        whole = {
            split: [Part(path, 0, size) for path, begin, size in placed if first <= begin + size / 2 < last]
            for split, (first, last) in spans.items()
        }
        if all(any(part.stop > 1 for part in parts) for parts in whole.values()):
            return whole
        return {
            split: [
                Part(path, max(first - begin, 0), min(last - begin, size))
                for path, begin, size in placed
                if begin < last and begin + size > first
            ]
            for split, (first, last) in spans.items()
        }


def corpus_of(paths: Sequence[str | Path] | None, pattern: str = "*") -> Corpus:
    """The files and the files below the folders that are named; None: Python's standard library.

    pattern: of the files below a folder; hidden ones are left out. Error: no such file or folder.
    """
    if paths is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        files = {path.name: path for path in sorted(root.glob("*.py"))}
        return Corpus(files, f"the modules of Python {sysconfig.get_python_version()}'s library: {len(files)} files")
    roots = [Path(path).expanduser() for path in paths]
    files = {}
    for index, root in enumerate(roots):
        prefix = f"{index}/" if index else ""  # two folders may hold files of one name
        files |= {prefix + name: path for name, path in _below(root, pattern).items()}
    return Corpus(files, f"{', '.join(root.name for root in roots)}: {len(files)} files")


def _below(root: Path, pattern: str) -> dict[str, Path]:
    if root.is_file():
        return {root.name: root}
    if not root.is_dir():
        raise UserError(f"{root} is no file or folder; name the text to learn from")
    below = ((path, path.relative_to(root)) for path in sorted(root.rglob(pattern)))
    return {str(p): path for path, p in below if path.is_file() and not any(part[0] == "." for part in p.parts)}


def rows_of(task: str, windows: Mapping[str, Windows], evaluated: int = EVALUATED) -> dict[str, Any]:
    """The splits of a task; of validation and test at most `evaluated` windows. Error: a split without text."""
    if short := [split for split, each in windows.items() if not len(each)]:
        raise UserError(f"task '{task}' has no text for {', '.join(short)}; give it more text")
    rows = {split: Rows(each, Selection(inputs=0, target=1)) for split, each in windows.items()}
    return {s: r if s == "train" else r.first(min(evaluated, len(r))) for s, r in rows.items()}


def splits_of(task: str, argument: str | None, read: Reader, pattern: str = "*") -> tuple[dict[str, Any], str]:
    """The three splits of the bytes of a file or folder (None: Python's library), and what they are of.

    Errors: no such file or folder; too little text.
    """
    corpus = corpus_of(None if argument is None else [argument], pattern)
    windows = {split: Windows(parts, read) for split, parts in corpus.divided().items()}
    name = task if argument is None else f"{task}:{argument}"
    return rows_of(name, windows), f"{corpus.title}, in windows of {LENGTH} bytes"
