"""A model with the tokens that a corpus uses: fewer rows of embeddings and of logits, and nothing else changes."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import UserError
from ...files import write_atomic
from ...search_space.adopted.installed import transformers
from ...tasks.arguments import paths_in
from ...tasks.corpus import Part, corpus_of
from ...tasks.token_files import texts_of
from ...tasks.tokenizer import backend_of, tokenizer_of
from .tokens import trimmed


@dataclass(frozen=True, eq=False)
class Trimmed:
    """A model and its tokenizer with the tokens that are kept: `kept[new id]` is the old id."""

    model: Any
    tokenizer: Any
    kept: torch.Tensor

    def save(self, folder: str | PathLike[str]) -> Path:
        """A folder that `AutoModel...` and `AutoTokenizer.from_pretrained` open."""
        self.model.save_pretrained(str(folder))
        if backend_of(self.tokenizer) is self.tokenizer:
            write_atomic(Path(folder) / "tokenizer.json", self.tokenizer.to_str(pretty=True))
        else:
            self.tokenizer.save_pretrained(str(folder))
        return Path(folder)


def trim_vocabulary(model: nn.Module, tokenizer: Any, corpus: str | PathLike[str] | Iterable[Any] | None) -> Trimmed:
    """The model with the tokens that a corpus uses; the one that is given is not changed.

    Of a text whose tokens are all kept, tokens are those of before under other ids, and logits are those of before of
    the tokens that are kept. Any other text is encoded by smaller tokens (`tokens.trimmed`).
    model: of transformers. tokenizer: of transformers, with a fast backend, or of tokenizers.
    corpus: a path, several with commas between, or a list of `Path`; or texts; None: Python's standard library.
    Errors: a model or a tokenizer of another kind; no such file.

    >>> from tokenizers import Tokenizer, models
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> tokenizer = Tokenizer(models.WordLevel({"?": 0, "cat": 1, "dog": 2, "owl": 3}, unk_token="?"))
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_embd=8, n_layer=1, n_head=1))
    >>> trimmed = nas.trim_vocabulary(model, tokenizer, ["owl"])
    >>> trimmed.kept.tolist(), trimmed.model.config.vocab_size
    ([0, 3], 2)
    """
    backend = backend_of(tokenizer)
    if backend is None:
        raise UserError(f"only a fast tokenizer can be trimmed, got {type(tokenizer).__name__}")
    if not isinstance(model, transformers().PreTrainedModel):
        raise UserError(f"only a model of transformers can be trimmed, got {type(model).__name__}")
    encode = tokenizer_of(backend, lambda: iter(()), str).encode
    used = {int(index) for text in _texts(corpus) for index in np.unique(encode([text])[0])}
    content, kept = trimmed(json.loads(backend.to_str()), used)
    rows = model.get_input_embeddings().weight.shape[0]
    kept = [index for index in kept if index < rows]
    smaller = type(backend).from_str(json.dumps(content))
    wrapped = smaller if backend is tokenizer else _wrapped(tokenizer, smaller, kept)
    return Trimmed(_cut(model, kept), wrapped, torch.tensor(kept))


def _texts(corpus: Any) -> Iterable[str]:
    named = corpus if corpus is None or isinstance(corpus, str | PathLike) else list(corpus)
    if isinstance(named, list) and not any(isinstance(each, PathLike) for each in named):
        return [str(each) for each in named]
    files = corpus_of(paths_in(named)).files.values()
    return texts_of([Part(file, 0, file.stat().st_size) for file in files])


def _wrapped(tokenizer: Any, backend: Any, kept: list[int]) -> Any:
    """The object of transformers, read from its own files with the trimmed tokenizer among them."""
    new = {old: index for index, old in enumerate(kept)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(name)
        for other in ("vocab.json", "vocab.txt", "merges.txt"):
            (folder / other).unlink(missing_ok=True)
        (folder / "tokenizer.json").write_text(backend.to_str())
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        if "added_tokens_decoder" in settings:
            added = settings["added_tokens_decoder"].items()
            settings["added_tokens_decoder"] = {str(new[int(old)]): value for old, value in added}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return type(tokenizer).from_pretrained(name)


@torch.no_grad()
def _cut(model: Any, kept: list[int]) -> Any:
    """A copy of the model with the rows of these tokens, ties kept, and the ids in its configs renumbered."""
    copy = deepcopy(model)
    new = {old: index for index, old in enumerate(kept)}
    into, out = copy.get_input_embeddings(), copy.get_output_embeddings()
    tables = {id(each): each for each in (into.weight, getattr(out, "weight", None), getattr(out, "bias", None))}
    for table in tables.values():
        if table is not None:
            table[: len(kept)] = table[kept].clone()
    copy.resize_token_embeddings(len(kept), mean_resizing=False)
    table = copy.get_input_embeddings()
    table.padding_idx = new.get(into.padding_idx) if into.padding_idx is not None else None
    for config in (copy.config, copy.config.get_text_config(), getattr(copy, "generation_config", None)):
        if config is not None:
            _renumber(config, new)
    return copy


def _renumber(config: Any, new: Mapping[int, int]) -> None:
    """The ids of special tokens in a config: `eos_token_id` and the like, one or several."""
    for name, value in config.to_dict().items():
        if not name.endswith("_token_id") or value is None:
            continue
        several = isinstance(value, list)
        ids = [new[each] for each in (value if several else [value]) if each in new]
        setattr(config, name, ids if several else next(iter(ids), None))
