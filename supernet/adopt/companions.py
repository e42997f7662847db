"""Files that belong to a model beside its weights: its tokenizer, and what makes a sentence encoder of it."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError
from .source import load_tokenizer, source_of

LOG = logging.getLogger("nas.run")
TOKENIZER = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "preprocessor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
MODULES = "modules.json"
SENTENCES = (MODULES, "config_sentence_transformers.json", "sentence_bert_config.json")
"""Of sentence-transformers, beside a folder for each module that `modules.json` names."""


def copy_companions(place: str, folder: Path) -> None:
    """Copy the files of the tokenizer, and those of sentence-transformers.

    place: where the model came from: a folder, a .gguf file, or the id of a model on a hub; empty: not known, and
    nothing is copied.
    """
    if Path(place).is_dir() and place:
        for name in _files_in(Path(place)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(place) / name, folder / name)
    elif place:
        try:
            load_tokenizer(source_of(place)).save_pretrained(folder)
        except UserError as error:
            LOG.warning("The tokenizer is not saved: %s", error)


def _files_in(place: Path) -> Iterator[Path]:
    """Paths below `place`."""
    yield from (Path(name) for name in (*TOKENIZER, *SENTENCES) if (place / name).is_file())
    if (place / MODULES).is_file():
        for module in json.loads((place / MODULES).read_text()):
            if module["path"]:
                yield from (p.relative_to(place) for p in (place / module["path"]).rglob("*") if p.is_file())
