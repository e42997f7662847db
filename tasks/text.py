"""Next-token prediction on local text: of bytes, or of the tokens of a tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ..errors import UserError, check_least, unknown
from .arguments import Paths, parsed, paths_in
from .corpus import BYTES, EVALUATED, LENGTH, Part, Windows, bytes_of, corpus_of, rows_of
from .language import METRICS, LanguageMetric, evaluation_batch, score_of
from .metrics import metric_named
from .registry import register
from .task import Task
from .token_files import Encoded, digest_of, encoded, next_tokens, texts_of
from .tokenizer import Tokenizer, tokenizer_of

WINDOW = 256
"""Tokens of a window."""
EVALUATED_TOKENS = 64
"""Windows of tokens of the validation and test splits: an adopted model of 135 M parameters takes a minute for them."""
LOST = 0.01
"""Share of the bytes of a text that its tokens may not stand for, and a metric still be of the bytes of the text."""
OPTIONS: Mapping[str, type] = {"tokenizer": str, "window": int, "metric": str, "validation": int}


@register("text")
def load(argument: str | None) -> Task:
    """A language model of text. `argument`: PATH[,PATH...][?tokenizer=...&window=...]; no path: Python's library."""
    paths, options = parsed("text", argument, OPTIONS)
    name = "text" if argument is None else f"text:{argument}"
    window = {} if "tokenizer" in options else {"window": LENGTH}
    return text_task(paths, name=name, **{**window, **options})


def text_task(
    paths: Paths = None,
    tokenizer: Any = None,
    window: int = WINDOW,
    batch_size: int = 16,
    *,
    validation: int | None = None,
    metric: LanguageMetric | None = None,
    name: str = "text",
) -> Task:
    """Prediction of the next token of the text in files and folders, for nets of your own and of transformers.

    Each file belongs whole to one split, by the SHA-256 of its name (`Corpus.divided`). Inputs are one tensor of token
    ids (N, window), targets the token that follows each; a window lies in one file, and a short one ends in ignored
    targets. Tokens are kept in files in the cache folder and mapped into memory.
    paths: files and folders, several in a list or with commas between; None: Python's standard library.
    tokenizer: None: the bytes of the text; "bpe:SIZE": a byte-level BPE that is trained on the training split; a path
        of a tokenizer.json, a folder with one, or a .gguf file; or an object of `tokenizers` or `transformers`.
    validation: windows of the validation and the test split, drawn once; None: 512 of bytes, 64 of tokens.
    metric: "nats_per_token" or "bits_per_byte"; None: of bytes bits per byte, else nats per token.
    Errors: no such file; a split without text; a tokenizer that cannot be used, or whose tokens do not keep the text
    where the metric is of its bytes; a package that is not installed.

    >>> task = nas.tasks.text_task("docs", "bpe:300", window=32)
    >>> task.input_shape, task.vocabulary, task.metric.name
    ((32,), 300, 'nats_per_token')
    """
    corpus = corpus_of(paths_in(paths))
    settings: Any = {"window": window, "batch_size": batch_size, "validation": validation, "metric": metric}
    return task_of_parts(corpus.divided(), corpus.title, tokenizer, name=name, **settings)


def task_of_parts(
    parts: Mapping[str, Sequence[Part]],
    title: str,
    tokenizer: Any,
    *,
    window: int,
    batch_size: int,
    validation: int | None,
    metric: LanguageMetric | None,
    name: str,
) -> Task:
    """The task of text that is divided already. title: what the text is; the others as of `text_task`."""
    check_least(1, window=window, batch_size=batch_size, validation=1 if validation is None else validation)
    if metric not in (None, *METRICS):
        raise unknown("metric of text", str(metric), METRICS)
    metric = metric or ("bits_per_byte" if tokenizer is None else "nats_per_token")
    if tokenizer is None:
        datasets = {split: Windows(each, next_bytes, window) for split, each in parts.items()}
        score, vocabulary, unit = score_of(metric), BYTES, "bytes"
        made = "The bytes of a text, one token each."
    else:
        training = list(parts["train"])
        own = tokenizer_of(tokenizer, lambda: texts_of(training), lambda: digest_of(training))
        texts = {split: encoded(each, own) for split, each in parts.items()}
        if metric == "bits_per_byte":
            check_lossless(own, texts)
        datasets = {split: Windows(each.parts, next_tokens, window) for split, each in texts.items()}
        score, vocabulary, unit = score_of(metric, torch.from_numpy(own.byte_counts)), own.vocabulary, "tokens"
        made = f"The tokens of a text by {own.name}, {vocabulary} in number."
    return Task(
        name=name,
        **rows_of(name, datasets, validation or (EVALUATED if tokenizer is None else EVALUATED_TOKENS)),
        metric=metric_named(metric, "min"),
        score=score,
        outputs="tokens",
        vocabulary=vocabulary,
        space="byte-lm",
        source=f"{title}, in windows of {window} {unit}",
        preprocessing=made,
        postprocessing=f"the logits at a place are of the {unit.removesuffix('s')} that comes next",
        batch_size=batch_size,
        evaluation_batch=evaluation_batch(window, vocabulary),
    )


def check_lossless(tokenizer: Tokenizer, texts: Mapping[str, Encoded]) -> None:
    """Error: the tokens do not keep the text, so that a metric cannot be of its bytes."""
    given, kept = (sum(getattr(each, name) for each in texts.values()) for name in ("bytes", "covered"))
    if abs(given - kept) > LOST * given:
        raise UserError(
            f"the tokens of {tokenizer.name} stand for {kept} of the {given} bytes of the text, so bits per byte would "
            "be of another text; use metric nats_per_token"
        )


def next_bytes(path: Path, begin: int, end: int, stop: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The bytes of a window, and after each the one that comes next."""
    data = bytes_of(path, begin, min(end + 1, stop))
    return data[: end - begin], data[1:]
