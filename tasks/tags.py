"""Token classification on local text: what each byte of a Python file belongs to."""

import io
import keyword
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .corpus import BYTES, bytes_of, splits_of
from .metrics import Answers, metric_named
from .outputs import IGNORED
from .registry import register
from .task import Task

LABELS = ("whitespace", "name", "keyword", "number", "string", "comment", "operator")
_KINDS = {"NAME": 1, "NUMBER": 3, "COMMENT": 5, "OP": 6}


@register("tags")
def load(argument: str | None) -> Task:
    """Lexical classes of Python. `argument`: a file, or a folder with .py files; None: Python's own library."""
    from torchmetrics.classification import MulticlassF1Score  # here: its import takes seconds

    splits, source = splits_of("tags", argument, tagged, "*.py")
    return Task(
        name="tags" if argument is None else f"tags:{argument}",
        **splits,
        metric=metric_named("macro_f1"),
        score=lambda: Answers(MulticlassF1Score(len(LABELS), average="macro", ignore_index=IGNORED)),
        labels=LABELS,
        vocabulary=BYTES,
        space="byte-tagger",
        source=f"{source}, with the classes of Python's own tokenizer",
        preprocessing="The bytes of Python code, one token each.",
        batch_size=16,
    )


def tagged(path: Path, begin: int, end: int, _: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The bytes of a window and the class of each."""
    return bytes_of(path, begin, end), _tags(path)[begin:end]


@cache
def _tags(path: Path) -> NDArray[np.uint8]:
    """The class of every byte of a file. Error: it is no Python."""
    data = path.read_bytes()
    try:
        text = data.decode()
        tags = _of_characters(text)
    except (UnicodeDecodeError, SyntaxError, tokenize.TokenError) as error:
        raise UserError(f"{path} is no Python file in UTF-8 ({error}); task 'tags' needs such files alone") from None
    if len(text) == len(data):
        return tags
    return np.repeat(tags, [len(character.encode()) for character in text])


def _of_characters(text: str) -> NDArray[np.uint8]:
    lines = text.split("\n")
    starts = np.cumsum([0, 0, *(len(line) + 1 for line in lines)])  # the first line is 1
    tags = np.zeros(len(text), dtype=np.uint8)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = _kind(token)
        if kind:
            (row, column), (last, end) = token.start, token.end
            tags[starts[row] + column : starts[last] + end] = kind
    return tags


def _kind(token: tokenize.TokenInfo) -> int:
    if token.type == tokenize.NAME and keyword.iskeyword(token.string):
        return LABELS.index("keyword")
    name = tokenize.tok_name[token.type]
    return LABELS.index("string") if "STRING" in name else _KINDS.get(name, 0)
