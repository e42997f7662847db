"""Files that are whole or not there, and that are read with a check: a damaged one is one sentence, not a traceback."""

import errno
import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUM = "checksum"
"""The field of a JSON file that holds the SHA-256 of all its other fields."""
MOST_BYTES, DEEPEST = 64 * 2**20, 50
"""Of a JSON file: what is larger or nested deeper was not written by this package."""


def cache_folder() -> Path:
    """Where runs without a folder of their own and the user's decisions live: $NAS_CACHE, else ~/.cache/nas."""
    return Path(os.environ.get("NAS_CACHE", Path.home() / ".cache" / "nas"))


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write `content` beside `path`, flush it to the disk and rename it: a reader never sees half a file.

    On failure (a full disk) the old file stays and the half-written one is removed.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(beside, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(beside, path)
    except OSError as error:  # a full disk does not say of which file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
    return path


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal. Error: it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def check_sha256(path: str | os.PathLike[str], expected: object) -> None:
    """Error: the file is not the one whose SHA-256 was recorded."""
    if sha256_of(path) != expected:
        raise UserError(
            f"{path} is damaged or of another origin: its SHA-256 is not the recorded one; restore the file"
        )


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with a checksum of itself, for a JSON file that `check_seal` recognises."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return {**rest, CHECKSUM: _checksum(rest)}


def check_seal(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Error: `content`, read from `path`, is not what `sealed` returned."""
    if content.get(CHECKSUM) != sealed(content)[CHECKSUM]:
        raise UserError(f"{path} was changed after it was written: its checksum does not fit; restore the file")


def _checksum(content: Mapping[str, Any]) -> str:
    """Of the canonical form: sorted names, no spaces; the same before and after a round trip through JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write `content` and its checksum as JSON."""
    return write_atomic(path, json.dumps(sealed(content), indent=1, allow_nan=False))


def read_json(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """The mapping in a JSON file. Its checksum is not looked at.

    what: of the file, for messages: "a run".
    Errors: a file that cannot be read, is larger than 64 MiB, is nested deeper than 50 levels, is no JSON or no
    mapping, or has a name twice or a number that is not finite.
    """
    try:
        with open(path, "rb") as handle:
            data = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read as {what}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise UserError(f"{path} is not a description of {what}: it is larger than {MOST_BYTES >> 20} MiB")
    try:
        content = json.loads(data, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
        _check_depth(content)
    except (ValueError, RecursionError) as error:
        cut = " (cut off on its way?)" if isinstance(error, json.JSONDecodeError) else ""
        reason = "nested too deeply" if isinstance(error, RecursionError) else f"{error}{cut}"
        raise UserError(f"{path} is not a description of {what}: {reason}; restore the file") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a description of {what}: it does not hold a mapping; restore the file")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name is there twice")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise RecursionError


def _inside(outer: Any) -> Collection[Any]:
    return outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()


def read_tensors(path: str | os.PathLike[str], infinite: Collection[str] = ()) -> "dict[str, Tensor]":
    """The tensors of a safetensors file, by name.

    infinite: the names that may hold infinite numbers (masks that are added to scores).
    Errors: a file that cannot be read or is none; numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # slow to import, as torch is

    try:
        tensors = load_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path} is not a safetensors file, or a damaged one: {error}; restore the file") from None
    check_finite(tensors, path, infinite)
    return tensors


def check_finite(
    tensors: "Mapping[str, Tensor]", where: str | os.PathLike[str], infinite: Collection[str] = ()
) -> None:
    """Error: numbers that are not finite; `infinite` as in `read_tensors`. Names the tensor and how many there are."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex():
            numbers = tensor.float() if tensor.element_size() == 1 else tensor  # torch has no isfinite of 8 bits
            odd = int((numbers.isnan() if name in infinite else ~numbers.isfinite()).sum())
            if odd:
                raise UserError(
                    f"{where}: {odd} of {tensor.numel()} numbers of {name} are not finite; the net is of no use"
                )
