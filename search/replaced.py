"""Several files and folders that change together."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A new folder in `folder`, to write `names` into; in the end they take the places of those in `folder`, in order.

    Until then nothing in `folder` has changed, and putting them in place needs no room on the disk. Write a manifest
    and name it last: a process that is killed while they are put in place leaves one that does not fit. What a killed
    one left is removed: `folder` must have one writer.
    """
    for left in folder.glob(".new.*"):
        shutil.rmtree(left, ignore_errors=True)
    beside = folder / f".new.{os.getpid()}"
    beside.mkdir()
    try:
        yield beside
        for name in names:
            _put(beside / name, folder / name, beside / f".old.{name}")
    except OSError as error:  # of a full disk: of the file that a user knows
        named = str(error.filename or folder).replace(str(beside), str(folder))
        raise OSError(error.errno, error.strerror, named) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put(new: Path, place: Path, old: Path) -> None:
    if place.is_dir():  # which cannot be replaced in one stroke
        place.rename(old)
    new.replace(place)
