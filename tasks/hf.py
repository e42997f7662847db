"""The text of a data set of the package `datasets`: from a hub, its cache on this machine, or a folder."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError, unknown
from ..files import cache_folder, write_atomic
from .arguments import parsed
from .corpus import SHARES, Corpus, Part
from .registry import register
from .task import Task
from .text import OPTIONS, WINDOW, task_of_parts

BLOCK = 2**18
"""Bytes of rows that make one document."""
USAGE = "write hf:DATASET[:CONFIG][:COLUMN], as in hf:wikitext:wikitext-2-raw-v1:text"


@register("hf")
def load(argument: str | None) -> Task:
    """A language model of `argument`: DATASET[:CONFIG][:COLUMN][?tokenizer=...&window=...], options as of `text`."""
    head, options = parsed("hf", argument, OPTIONS)
    dataset, config, column, *rest = [*head.split(":"), "", ""]
    if not dataset or any(rest):
        raise UserError(f"task 'hf' needs a data set: {USAGE}")
    data = _opened(dataset, config)
    column = _column(data, column)
    given: dict[str, Any] = {"tokenizer": None, "window": WINDOW, "validation": None, "metric": None, **options}
    parts, title = _parts(data, column)
    return task_of_parts(parts, f"{dataset}, {title}", name=f"hf:{argument}", batch_size=16, **given)


def _opened(dataset: str, config: str) -> Mapping[str, Any]:
    """The splits of the data set. Errors: the package is missing; the data set cannot be had."""
    try:
        import datasets
    except ImportError:
        raise UserError("data sets of a hub need the package `datasets`; pip install datasets") from None
    folder = Path(dataset).expanduser()
    try:
        if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            data = datasets.load_from_disk(str(folder))
        else:
            data = datasets.load_dataset(str(folder) if folder.exists() else dataset, config or None)
    except Exception as error:  # of many libraries behind it
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"the data set {dataset!r} cannot be opened ({reason}); name a folder or one that was loaded before, or "
            "try again with a network"
        ) from None
    return data if isinstance(data, Mapping) else {"train": data}


def _column(data: Mapping[str, Any], column: str) -> str:
    """The column of text: the one that is named, `text`, or the only one of strings. Error: there is none such."""
    features = next(iter(data.values())).features
    strings = [name for name, kind in features.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
    if column and column not in strings:
        raise unknown("column of text", column, strings)
    chosen = column or ("text" if "text" in strings else strings[0] if len(strings) == 1 else "")
    if not chosen:
        raise UserError(f"the data set has the columns of text {', '.join(strings) or 'none'}; name one: {USAGE}")
    return chosen


def _parts(data: Mapping[str, Any], column: str) -> tuple[Mapping[str, list[Part]], str]:
    """The splits as parts of files of text, and a phrase that says which they are."""
    if set(SHARES) <= set(data):
        files = {split: _files(data[split], column) for split in SHARES}
        return {split: [Part(f, 0, f.stat().st_size) for f in own] for split, own in files.items()}, "its own splits"
    first = "train" if "train" in data else next(iter(data))
    files = {first: _files(data[first], column)}
    return Corpus({file.name: file for file in files[first]}, "").divided(), f"its split {first!r}, divided by blocks"


def _files(rows: Any, column: str) -> list[Path]:
    """The texts of rows in files, some rows in each, written once; the data set's fingerprint names their folder."""
    name = hashlib.sha256(f"{rows._fingerprint} {column}".encode()).hexdigest()[:32]
    folder = cache_folder() / "datasets" / name
    if not (folder / "whole").is_file():
        for index, text in enumerate(_blocks(rows[column])):
            write_atomic(folder / f"{index:06}.txt", text)
        write_atomic(folder / "whole", "")
    return sorted(folder.glob("*.txt"))


def _blocks(texts: Iterable[str | None]) -> Iterator[str]:
    """Rows with an empty line between, as many together as make a document."""
    block: list[str] = []
    for text in texts:
        block.append(text or "")
        if sum(map(len, block)) >= BLOCK:
            yield "\n\n".join(block)
            block = []
    if block:
        yield "\n\n".join(block)
