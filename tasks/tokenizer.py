"""A tokenizer as a task of text uses it: of an adopted model, trained on the text, or of the user's own making."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..files import cache_folder, write_atomic

MISSING = 'tokenizers need the package `{}`; install it with: pip install "nas[adopt]"'
TRAINED = re.compile(r"bpe:(\d+)")


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """encode: texts to their token ids, without special tokens at their ends.

    name: for people. vocabulary: token ids are below it. digest: identity, of what is encoded.
    byte_counts (vocabulary,): bytes of text that each token stands for.
    backend: the `tokenizers.Tokenizer`, where it is one.
    """

    name: str
    vocabulary: int
    digest: str
    encode: Callable[[Sequence[str]], list[list[int]]]
    byte_counts: NDArray[np.int64]
    backend: Any = field(default=None, repr=False)


def tokenizer_of(given: Any, texts: Callable[[], Iterator[str]], key: Callable[[], str]) -> Tokenizer:
    """The tokenizer that is named or given.

    given: "bpe:SIZE", trained on `texts`, whose digest is `key()`; a tokenizer.json, a folder with one, or a .gguf
        file; or an object with `encode` and `decode`, as of `tokenizers` and `transformers`.
    """
    if isinstance(given, str) and given.startswith("bpe"):
        file = _trained(given, texts, key)
        return _of_backend(read_backend(file), f"{given}, which is {file}")
    if isinstance(given, str | Path):
        return _of_backend(read_backend(Path(given).expanduser()), str(given))
    backend = backend_of(given)
    if backend is not None:
        return _of_backend(backend, str(getattr(given, "name_or_path", "") or "the tokenizer that was given"))
    return _of_object(given)


def backend_of(given: Any) -> Any:
    """The `tokenizers.Tokenizer` of an object of `tokenizers` or `transformers`; None: it is neither."""
    inner = getattr(given, "backend_tokenizer", given)
    return inner if _classes(inner) >= {"tokenizers.Tokenizer"} else None


def _classes(given: Any) -> set[str]:
    """The classes of an object, told without an import of the packages that have them."""
    return {f"{each.__module__.partition('.')[0]}.{each.__name__}" for each in type(given).__mro__}


def read_backend(path: Path) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json, a folder with one, or a .gguf file. Error: there is none."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.suffix == ".gguf" and file.is_file():
        return _of_gguf(file)
    if not file.is_file():
        raise UserError(
            f"tokenizer {str(path)!r} is no tokenizer.json, no folder with one and no .gguf file; give one of these, "
            "or bpe:SIZE to train one"
        )
    try:
        return _library().Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare `Exception`s
        raise UserError(f"{file} is not a tokenizer of the package `tokenizers`: {error}") from None


def _of_gguf(file: Path) -> Any:
    try:
        import gguf  # noqa: F401
        from transformers import AutoTokenizer
    except ImportError:
        raise UserError(MISSING.format("transformers and gguf")) from None
    return backend_of(AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name))


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError(MISSING.format("tokenizers")) from None
    return tokenizers


def _trained(given: str, texts: Callable[[], Iterator[str]], key: Callable[[], str]) -> Path:
    """The file of a byte-level BPE, in the cache folder under the digest of the text that it was trained on."""
    match = TRAINED.fullmatch(given)
    if match is None or not 256 < int(match[1]) <= 2**20:
        raise UserError(f"a tokenizer that is trained is bpe:SIZE with 257 to {2**20} tokens, got {given!r}")
    library = _library()
    file = cache_folder() / "tokenizers" / f"{key()}-{match[1]}.json"
    if not file.is_file():
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=int(match[1]), initial_alphabet=alphabet, show_progress=False, special_tokens=[]
        )
        tokenizer.train_from_iterator(texts(), trainer)
        write_atomic(file, tokenizer.to_str(pretty=True))
    return file


def _of_backend(backend: Any, name: str) -> Tokenizer:
    """Of a copy that neither cuts nor fills up texts, as the files of sentence encoders ask for."""
    copy = type(backend).from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    content = json.loads(copy.to_str())
    counts = byte_counts(content)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in copy.encode_batch_fast(list(texts), add_special_tokens=False)]

    digest = hashlib.sha256(copy.to_str().encode()).hexdigest()
    return Tokenizer(name, len(counts), digest, encode, counts, copy)


def byte_counts(content: dict[str, Any]) -> NDArray[np.int64]:
    """Bytes of the text that each token stands for, of the content of a tokenizer.json."""
    model, added = content["model"], {each["id"]: each["content"] for each in content["added_tokens"]}
    entries = model["vocab"]
    pairs = entries.items() if isinstance(entries, dict) else ((entry[0], i) for i, entry in enumerate(entries))
    names = {index: name for name, index in pairs}
    is_byte_level = is_byte_level_json(content)
    counts = np.zeros(max([*names, *added], default=-1) + 1, dtype=np.int64)
    for index, name in names.items():
        counts[index] = len(name) if is_byte_level else len(_plain(name, model))
    for index, name in added.items():
        counts[index] = len(name.encode())
    return counts


def is_byte_level_json(content: dict[str, Any]) -> bool:
    """Whether each character of a token is a byte of the text (GPT-2's alphabet)."""
    return '"ByteLevel"' in json.dumps([content["pre_tokenizer"], content["decoder"]])


def _plain(token: str, model: dict[str, Any]) -> bytes:
    """The bytes of a token of SentencePiece, which writes a space as an underline, or of WordPiece."""
    if model.get("byte_fallback") and re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.removeprefix(model.get("continuing_subword_prefix") or "").replace("▁", " ").encode()


def _of_object(given: Any) -> Tokenizer:
    """Of the user's own making. Error: it does not encode and decode, or does not say how many tokens it has."""
    vocabulary = getattr(given, "vocab_size", None)
    if not (callable(getattr(given, "encode", None)) and callable(getattr(given, "decode", None))):
        raise UserError(
            f"a tokenizer is None (bytes), 'bpe:SIZE', a path, or an object with encode and decode, got {given!r}"
        )
    if not isinstance(vocabulary, int):
        raise UserError(f"a tokenizer of your own has `vocab_size`, the number of its tokens, got {given!r}")
    encode = given.encode
    if "transformers.PreTrainedTokenizerBase" in _classes(given):  # one without a fast backend
        vocabulary, encode = len(given), partial(given.encode, add_special_tokens=False)
    pieces = [str(given.decode([index])) for index in range(vocabulary)]
    counts = np.array([len(piece.encode()) for piece in pieces], dtype=np.int64)
    digest = hashlib.sha256(repr((type(given).__qualname__, pieces)).encode()).hexdigest()
    return Tokenizer(type(given).__name__, vocabulary, digest, lambda texts: [list(encode(t)) for t in texts], counts)
