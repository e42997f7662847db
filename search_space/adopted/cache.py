"""The key/value cache with which a net of the transformers library generates text: made, filled, cut, copied."""

import inspect
import sys
from copy import copy
from typing import Any

from torch import Tensor, nn

from ...errors import UserError
from .installed import transformers

Cache = Any
"""A `DynamicCache` of the transformers library: keys and values (batch, key/value heads, tokens, channels) by layer."""
OLD_NAME = "past_key_values"
"""Of the argument `cache` of forward, up to transformers 5.23."""


def generates(net: nn.Module) -> bool:
    """Whether it is a language model of the transformers library that can keep keys and values from step to step."""
    library = sys.modules.get("transformers")
    if library is None or not isinstance(net, library.PreTrainedModel) or not net.can_generate():
        return False
    return bool({"cache", OLD_NAME} & inspect.signature(net.forward).parameters.keys())


def check_generates(net: nn.Module, what: str) -> None:
    """Error: it cannot, so there is no `what` of it."""
    if not generates(net):
        raise UserError(
            f"{what}: {type(net).__name__} keeps no key/value cache; give a causal language model of the transformers "
            "library (nas.adopt)"
        )


def new_cache(net: nn.Module) -> Cache:
    """An empty one."""
    return transformers().DynamicCache(config=net.config)


def advance(net: nn.Module, tokens: Tensor, cache: Cache, logits: int = 1) -> Tensor:
    """Call the net with the next tokens (batch, n), whose keys and values the cache takes up.

    Returns the logits (batch, logits, vocabulary) of the last `logits` tokens.
    """
    accepted = inspect.signature(net.forward).parameters
    keywords: dict[str, Any] = {"cache" if "cache" in accepted else OLD_NAME: cache, "use_cache": True}
    if "logits_to_keep" in accepted:
        keywords["logits_to_keep"] = logits
    result: Tensor = net(input_ids=tokens, **keywords).logits
    return result[:, -logits:]


def tensors_of_cache(cache: Cache) -> list[Tensor]:
    """Keys and values of the layers that have some, by turns."""
    return [t for layer in cache.layers if layer.is_initialized for t in (layer.keys, layer.values)]


def copy_of(cache: Cache) -> Cache:
    """One more that holds the same tensors. Growing or cutting one leaves the other as it is."""
    result = copy(cache)
    result.layers = [copy(layer) for layer in cache.layers]
    return result


def cut(cache: Cache, tokens: int) -> None:
    """Forget the last `tokens` tokens."""
    if tokens:
        cache.crop(-tokens)


def resized(net: nn.Module, cache: Cache, tokens: int) -> Cache:
    """An empty net's cache of so many tokens, with tensors without values where `cache` has some."""
    result = new_cache(net)
    for index, layer in enumerate(cache.layers):
        if layer.is_initialized:
            keys, values = (t.new_empty((*t.shape[:2], tokens, *t.shape[3:])) for t in (layer.keys, layer.values))
            result.update(keys, values, index)
    return result
