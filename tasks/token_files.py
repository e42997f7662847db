"""Text as tokens on disk: encoded once, a few MiB at a time, and mapped into memory after that.

A file of tokens is named by the SHA-256 of the text that it was made of and of the tokenizer. Work that is interrupted
goes on with the next file, and text that is added to a corpus is all that is encoded then.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import cache_folder, read_json, write_atomic, write_json
from .corpus import Part, bytes_of
from .tokenizer import Tokenizer

MOST_BYTES = 8 * 2**20
"""Of the text of one file of tokens, and of a document: longer ones are cut after a line."""
_KINDS: dict[str, Any] = {".uint16": np.uint16, ".uint32": np.uint32}


@dataclass(frozen=True)
class Encoded:
    """Documents as tokens, a part of a file each; how many bytes of text they are, and how many the tokens stand for.

    The two differ where a tokenizer loses something: white space, letters that it makes small.
    """

    parts: list[Part]
    bytes: int
    covered: int


def encoded(parts: Sequence[Part], tokenizer: Tokenizer) -> Encoded:
    """The tokens of those parts of files, from the cache where it has them."""
    documents: list[Part] = []
    sums = [0, 0]
    for shard in _shards(parts):
        file, record = _encoded_shard([text_of(part) for part in shard], tokenizer)
        stops = np.cumsum([0, *record["tokens"]]).tolist()
        documents += [Part(file, a, b) for a, b in pairwise(stops)]
        sums = [sums[0] + record["bytes"], sums[1] + record["covered"]]
    return Encoded(documents, *sums)


def texts_of(parts: Sequence[Part]) -> Iterator[str]:
    """The texts of parts of files, of large ones in pieces."""
    return (text_of(piece) for part in parts for piece in _pieces(part))


def digest_of(parts: Sequence[Part]) -> str:
    """Of all the text of parts of files."""
    content = hashlib.sha256()
    for text in texts_of(parts):
        content.update(text.encode())
        content.update(b"\0")
    return content.hexdigest()[:32]


def text_of(part: Part) -> str:
    """In UTF-8; what is none becomes a replacement character."""
    return bytes_of(part.path, part.start, part.stop).tobytes().decode(errors="replace")


def next_tokens(path: Path, begin: int, end: int, stop: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The tokens of a window, and after each the one that comes next."""
    data = _mapped(path)[begin : min(end + 1, stop)]
    return data[: end - begin], data[1:]


@lru_cache(maxsize=256)
def _mapped(path: Path) -> NDArray[Any]:
    return np.memmap(path, _KINDS[path.suffix], mode="r")


def _pieces(part: Part) -> Iterator[Part]:
    """The part, cut after the last line end in each few MiB."""
    start = part.start
    while part.stop - start > MOST_BYTES:
        last = bytes_of(part.path, start, start + MOST_BYTES).tobytes().rfind(b"\n")
        stop = start + (last + 1 if last >= 0 else MOST_BYTES)
        yield Part(part.path, start, stop)
        start = stop
    yield Part(part.path, start, part.stop)


def _shards(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Documents that follow one another, a few MiB together."""
    shard: list[Part] = []
    size = 0
    for piece in (piece for part in parts for piece in _pieces(part)):
        if shard and size + piece.stop - piece.start > MOST_BYTES:
            yield shard
            shard, size = [], 0
        shard, size = [*shard, piece], size + piece.stop - piece.start
    if shard:
        yield shard


def _encoded_shard(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[Path, dict[str, Any]]:
    """The file of tokens of these documents, and its record: tokens of each, bytes of all, bytes that they stand for.

    The record is written last: where it is, the tokens are whole.
    """
    name = hashlib.sha256(tokenizer.digest.encode())
    for text in texts:
        name.update(hashlib.sha256(text.encode()).digest())
    stem = cache_folder() / "tokens" / name.hexdigest()[:32]
    suffix = ".uint16" if tokenizer.vocabulary <= 2**16 else ".uint32"
    file, record = stem.with_suffix(suffix), stem.with_suffix(".json")
    if not (file.is_file() and record.is_file()):
        ids = tokenizer.encode(texts)
        tokens = np.array([token for document in ids for token in document], dtype=_KINDS[suffix])
        write_atomic(file, tokens.tobytes())
        covered = int(tokenizer.byte_counts[tokens].sum()) if len(tokens) else 0
        sizes = {"bytes": sum(len(text.encode()) for text in texts), "covered": covered}
        write_json(record, {"tokens": [len(each) for each in ids], **sizes})
    return file, read_json(record, "a file of tokens")
