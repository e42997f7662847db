"""Sentence embeddings: a net learns to keep the similarities that its teacher sees, on text without labels."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError, check_least
from .arguments import parsed, paths_in
from .batches import Selection
from .corpus import SHARES, corpus_of
from .data import Rows
from .metrics import metric_named
from .registry import register
from .sentences import Row, drawn, sentences_in, shared_out
from .similarity import Pooling, SimilarityCorrelation, pooled, similarity_loss
from .task import Task
from .teacher import OUTPUT, SHARD, Teacher, filled, mapped, teacher_of, vectors
from .tokenizer import Tokenizer, tokenizer_of

_TEXTS, _NUMBERS = ("teacher", "tokenizer", "pooling"), ("window", "sentences", "validation")
OPTIONS: Mapping[str, type] = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_NUMBERS, int)}
INPUTS, TARGETS = ("input_ids", "attention_mask"), ("embedding", "mask")


@register("embeddings")
def load(argument: str | None) -> Task:
    """Sentences of `argument`: [PATH,...]?teacher=FOLDER[&window=64...]; no path: Python's standard library."""
    paths, options = parsed("embeddings", argument, OPTIONS)
    if "teacher" not in options:
        raise UserError("task 'embeddings' needs a teacher; write embeddings:PATH?teacher=FOLDER")
    return embedding_task(paths, name=f"embeddings:{argument}", **options)


class Sentences:
    """A map-style dataset of token ids and masks (T,), with the teacher's vector (D,) of each sentence."""

    def __init__(self, ids: NDArray[Any], lengths: NDArray[Any], files: Sequence[Path]) -> None:
        self.ids, self.lengths, self.files = ids, lengths, list(files)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard, place = divmod(index, SHARD)
        vector = mapped(self.files[shard], min(SHARD, len(self) - shard * SHARD))[place]
        mask = torch.arange(self.ids.shape[1]) < int(self.lengths[index])
        own = {"input_ids": torch.from_numpy(self.ids[index]), "attention_mask": mask.long()}
        return {**own, "embedding": torch.from_numpy(vector.copy()), "mask": mask.float()}


def embedding_task(
    paths_or_sentences: str | PathLike[str] | Sequence[str] | Sequence[PathLike[str]] | None,
    teacher: Any,
    tokenizer: Any = None,
    window: int = 64,
    batch_size: int = 32,
    *,
    sentences: int = 10_000,
    validation: int = 512,
    pooling: Pooling | None = None,
    name: str = "embeddings",
) -> Task:
    """Sentences without labels, and as targets the vectors that a teacher gives them, computed once and kept on disk.

    Inputs are dicts of `input_ids` and `attention_mask` (N, window); targets of `embedding` (N, D), unit vectors, and
    the `mask`. A net returns features of tokens (N, window, E), in `last_hidden_state` or alone, which are pooled as
    the teacher's, or a vector of each sentence (N, E). The loss is `similarity_loss`; the metric Spearman's correlation
    of the cosines of all pairs of validation sentences with the teacher's.
    paths_or_sentences: a path, several with commas between, or a list of `Path`: the docstrings of Python files and the
        prose of others, split by file (`Corpus.divided`), each once; a list of strings: the sentences; None:
        Python's standard library.
    teacher: an nn.Module, or a folder of transformers or sentence-transformers.
    tokenizer: as of `text_task`; None: that in the teacher's folder.
    sentences, validation: at most so many to train; to validate and to test.
    pooling: "mean" or "cls"; None: as the teacher's folder says, else the mean.
    Errors: no such file or folder; fewer than three sentences in a split; a module without a tokenizer.

    >>> task = nas.tasks.embedding_task("docs", "models/all-MiniLM-L6-v2", window=32)
    >>> task.metric.name, sorted(task.example)
    ('similarity_correlation', ['attention_mask', 'input_ids'])
    """
    check_least(2, window=window)
    check_least(3, sentences=sentences, validation=validation)
    encoder, title = teacher_of(teacher, pooling), "sentences that were given"
    given = paths_or_sentences
    if given is None or isinstance(given, str | PathLike) or any(isinstance(each, PathLike) for each in given):
        corpus = corpus_of(paths_in(given))
        title = f"sentences of {corpus.title}"
        splits: Mapping[str, Iterable[str]] = {split: sentences_in(parts) for split, parts in corpus.divided().items()}
    else:
        splits = shared_out([str(each) for each in given])
    own = _tokenizer(teacher, tokenizer)
    tokens = {split: _encoded(each, own, window) for split, each in splits.items()}
    kept = drawn(tokens, {split: sentences if split == "train" else validation for split in SHARES})
    rows = {split: _rows(each, encoder, window) for split, each in kept.items()}
    return Task(
        name=name,
        train=rows["train"],
        validation=rows["validation"],
        test=rows["test"],
        loss=partial(_loss, encoder.pooling),
        distillation=partial(_distillation, encoder.pooling),
        metric=metric_named("similarity_correlation", "max"),
        score=partial(SimilarityCorrelation, encoder.pooling),
        output=OUTPUT,
        outputs="embeddings",
        vocabulary=own.vocabulary,
        source=f"{title}, and the vectors of {type(encoder.module).__name__}",
        preprocessing=f"The tokens of a sentence by {own.name}, with special tokens, cut and filled up to {window}.",
        postprocessing=f"{encoder.pooling} of the features of the tokens, scaled to length 1",
        batch_size=batch_size,
        evaluation_batch=64,
    )


def _tokenizer(teacher: Any, tokenizer: Any) -> Tokenizer:
    if tokenizer is None and not isinstance(teacher, str | Path):
        raise UserError("a teacher that is a module needs its tokenizer: tokenizer=FOLDER, or the object")
    own = tokenizer_of(teacher if tokenizer is None else tokenizer, lambda: iter(()), str)
    if own.backend is None:
        raise UserError(f"the tokenizer {own.name} cannot add special tokens; give a tokenizer.json, or its folder")
    return own


def _encoded(texts: Iterable[str], tokenizer: Tokenizer, window: int) -> list[Row]:
    """With special tokens, and cut at the window."""
    backend = type(tokenizer.backend).from_str(tokenizer.backend.to_str())
    backend.enable_truncation(window)
    return [tuple(each.ids) for each in backend.encode_batch_fast(list(texts))]


def _rows(tokens: Sequence[Row], teacher: Teacher, window: int) -> Rows:
    pad = getattr(getattr(teacher.module, "config", None), "pad_token_id", None) or 0
    ids, lengths = filled(tokens, window, pad)
    select = Selection(INPUTS, {name: name for name in TARGETS})
    return Rows(Sentences(ids, lengths, vectors(teacher, ids, lengths)), select)


def _loss(pooling: Pooling, prediction: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    return similarity_loss(pooled(prediction, targets["mask"], pooling), targets["embedding"])


def _distillation(pooling: Pooling, student: Tensor, teacher: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    ours, theirs = (pooled(each, targets["mask"], pooling) for each in (student, teacher))
    return similarity_loss(ours, theirs.detach())
