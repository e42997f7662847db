"""The tokenizer that is left when some tokens are taken away, as the content of its tokenizer.json."""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from ...errors import UserError
from ...tasks.tokenizer import is_byte_level_json

Content = dict[str, Any]
"""Of a tokenizer.json."""
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def trimmed(content: Content, used: Iterable[int]) -> tuple[Content, list[int]]:
    """(the smaller tokenizer, the old ids of its tokens in the order of the new ones).

    It keeps the tokens `used`, those that they are merged from, the added tokens (special ones among them), and single
    bytes, or single characters where there are none: every text that could be encoded still can be. A text whose tokens
    are all kept is encoded as before: a merge on the way to a kept token is kept, in its order, and no other was done.
    Error: an unknown kind of tokenizer.
    """
    model = content["model"]
    ids = ids_of(model)
    names = {index: name for name, index in ids.items()}
    added = {each["id"] for each in content["added_tokens"]}
    kept = {names[index] for index in used if index in names} | {n for n in ids if _is_basic(n, content)}
    kept |= {name for name in [model.get("unk_token")] if name in ids}
    kept |= {names[index] for index in (*added, model.get("unk_id")) if index in names}
    order = sorted({ids[name] for name in _closed(kept, merges_of(model))} | added)
    new = {old: index for index, old in enumerate(order)}
    return _renumbered(content, new), order


def ids_of(model: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id, of the `model` in a tokenizer.json. Error: an unknown kind."""
    if model["type"] not in ("BPE", "WordPiece", "WordLevel", "Unigram"):
        raise UserError(f"a tokenizer of kind {model['type']!r} cannot be trimmed; BPE, WordPiece and Unigram can")
    entries = model["vocab"]
    return dict(entries) if isinstance(entries, dict) else {entry[0]: i for i, entry in enumerate(entries)}


def merges_of(model: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The merges of a BPE, in order: two tokens and what they become; of others none."""
    pairs = (each.split(" ", 1) if isinstance(each, str) else each for each in model.get("merges") or [])
    return [(first, second, first + second.removeprefix(_prefix(model))) for first, second in pairs]


def _is_basic(name: str, content: Content) -> bool:
    """Whether a token is a single byte or, where the tokenizer does not fall back on bytes, a single character."""
    model = content["model"]
    if model.get("byte_fallback"):
        return _BYTE.fullmatch(name) is not None
    return len(name if is_byte_level_json(content) else name.removeprefix(_prefix(model))) == 1


def _prefix(model: Mapping[str, Any]) -> str:
    return model.get("continuing_subword_prefix") or ""


def _closed(kept: set[str], merges: Sequence[tuple[str, str, str]]) -> set[str]:
    """The tokens, and all that they are merged from."""
    kept, before = set(kept), -1
    while len(kept) > before:  # once and once more to see it: the merges of two parts stand before their own
        before = len(kept)
        for first, second, whole in reversed(merges):
            if whole in kept:
                kept |= {first, second}
    return kept


def _renumbered(content: Content, new: Mapping[int, int]) -> Content:
    """The content with the ids that are left; merges whose parts or result are gone are dropped."""
    content = deepcopy(content)
    model = content["model"]
    ids = {name: new[index] for name, index in ids_of(model).items() if index in new}
    if isinstance(model["vocab"], dict):
        vocabulary: Any = ids
    else:
        vocabulary = [entry for index, entry in enumerate(model["vocab"]) if index in new]
    merges, model["vocab"] = merges_of(model), vocabulary
    if model.get("merges"):
        known = zip(model["merges"], merges, strict=True)
        model["merges"] = [merge for merge, tokens in known if all(token in ids for token in tokens)]
    if model.get("unk_id") is not None:
        model["unk_id"] = new[model["unk_id"]]
    for each in content["added_tokens"]:
        each["id"] = new[each["id"]]
    if content.get("padding"):
        content["padding"]["pad_id"] = new.get(content["padding"]["pad_id"], 0)
    content["post_processor"] = _processor(content["post_processor"], new)
    return content


def _processor(node: Any, new: Mapping[int, int]) -> Any:
    """What adds special tokens around a text, with their new ids."""
    if isinstance(node, list):
        return [_processor(each, new) for each in node]
    if not isinstance(node, dict):
        return node
    result = {name: _processor(value, new) for name, value in node.items()}
    if isinstance(result.get("ids"), list):
        result["ids"] = [new[index] for index in node["ids"]]
    for name in ("sep", "cls"):  # of BERT's and RoBERTa's own processors: a token and its id
        if isinstance(node.get(name), list):
            result[name] = [node[name][0], new[node[name][1]]]
    return result
