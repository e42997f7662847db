"""Sentences of text on this machine: the docstrings of Python files, and the prose of others."""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..errors import UserError
from .corpus import SHARES, Part
from .token_files import texts_of

FEWEST_WORDS = 4
"""Of a sentence: shorter ones are headings and lists of names."""
Row = tuple[int, ...]
"""The token ids of a sentence."""
_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_WORD = re.compile(r"[^\W\d_]{2,}")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sentences_in(parts: Sequence[Part]) -> Iterator[str]:
    """The sentences of parts of files, in order, each on one line; some may come more than once."""
    for part in parts:
        for text in texts_of([part]):
            for prose in _docstrings(text) if part.path.suffix == ".py" else [text]:
                lines = (" ".join(piece.split()) for piece in _END.split(prose))
                yield from (line for line in lines if ">>>" not in line and len(_WORD.findall(line)) >= FEWEST_WORDS)


def _docstrings(source: str) -> list[str]:
    """Of a Python file; of what is none, all of it."""
    try:
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, _DOCUMENTED)]
    except (SyntaxError, ValueError, RecursionError):
        return [source]
    return [text for node in nodes if (text := ast.get_docstring(node))]


def shared_out(sentences: Sequence[str]) -> dict[str, list[str]]:
    """Sentences that were given, in the three splits, by the SHA-256 of each."""
    order = sorted(dict.fromkeys(sentences), key=lambda text: hashlib.sha256(text.encode()).digest())
    return {split: order[int(a * len(order)) : int(b * len(order))] for split, (a, b) in SHARES.items()}


def drawn(splits: Mapping[str, Iterable[Row]], most: Mapping[str, int]) -> dict[str, list[Row]]:
    """At most so many different sentences of each split, as token ids, drawn once; none is in a split before.

    Error: a split with fewer than three.
    """
    seen: set[Row] = set()
    result: dict[str, list[Row]] = {}
    for split, sentences in splits.items():
        own = [row for row in dict.fromkeys(sentences) if row not in seen]
        seen.update(own)
        if len(own) < 3:
            raise UserError(f"the text has {len(own)} sentences for {split}, and 3 are needed; give it more text")
        order = np.random.default_rng(0).permutation(len(own))
        result[split] = [own[i] for i in order[: most[split]].tolist()]
    return result
