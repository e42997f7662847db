"""A decoder of an adopted space as an ONNX file with key/value cache, and what ONNX Runtime GenAI reads beside it."""

import inspect
import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...files import write_atomic
from ...hw_profiles.cost.flat import tensors_of
from ...hw_profiles.cost.onnx_file import program_to_onnx, quiet
from ...hw_profiles.measuring.onnx_decoder import PAST, PRESENT, OnnxDecoder, cache_names
from ...search_space.adopted.family import family_of, head_dim_of
from ...search_space.adopted.installed import transformers
from ...search_space.adopted.modeling_narrowed import Sizes
from ...search_space.inputs import Inputs
from .companions import copy_companions
from .huggingface import check_adopted

LOG = logging.getLogger("nas.run")
FOLDER, CONFIG = "onnx-genai", "genai_config.json"
NEW_TOKENS, PROMPT = 32, 16
"""Tokens that the file and torch have to continue a prompt of the example with alike, and of that prompt."""
TOLERANCE = 1e-3
"""Of logits, relative to the largest."""
TYPES = {"gpt2": "decoder"}
"""Kinds of models as GenAI calls them, where it does not use the library's word or means another layout by it."""


def write_genai(net: nn.Module, example: Inputs, folder: Path) -> Path:
    """Write `model.onnx`, `genai_config.json` and the tokenizer to a subfolder; the path of the file.

    Logits and greedy text are compared with torch's. Errors: no decoder of the library; a file that differs.
    """
    check_adopted(net, "onnx-genai")
    sizes = _attentions(net)
    content = decoder_to_onnx(net)
    check_decoder(OnnxDecoder(content), net, tensors_of(example)[0][:1, :PROMPT])
    path = write_atomic(folder / FOLDER / "model.onnx", content)
    if len(set(sizes)) == 1:
        write_atomic(folder / FOLDER / CONFIG, json.dumps(_config(net, sizes), indent=1))
    else:
        LOG.warning("GenAI takes equal heads in all layers, which this net has not: no %s is written", CONFIG)
    copy_companions(str(net.name_or_path), folder / FOLDER)
    return path


def decoder_to_onnx(net: Any) -> bytes:
    """The decoder as a file with the inputs and outputs of `OnnxDecoder`; batch and all lengths are free.

    Layers without attention have no cache; the others are numbered one after the other. Error: no decoder.
    """
    if not net.can_generate() or net.config.is_encoder_decoder:
        raise UserError(f"{type(net).__name__} is no decoder of text, and has no format 'onnx-genai'; use onnx")
    sizes = [(place, each) for place, each in enumerate(_layers(net)) if each.kv_heads]
    batch, past, now = 2, 3, 4  # no two alike: equal sizes might be taken for one
    ids = torch.ones(batch, now, dtype=torch.long)
    positions = torch.arange(past, past + now).repeat(batch, 1)
    parameter = next(net.parameters())
    caches = [parameter.new_zeros(batch, each.kv_heads, past, each.head_dim) for _, each in sizes for _ in "kv"]
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 1: free}, {0: free, 1: free}, {0: free, 1: free}, [{0: free, 2: free}] * len(caches))
    step = _Step(net, [place for place, _ in sizes]).eval()
    arguments = (ids, torch.ones(batch, past + now, dtype=torch.long), positions, caches)
    with quiet(), torch.no_grad():
        program = torch.export.export(step, arguments, dynamic_shapes=shapes)
        inputs = ["input_ids", "attention_mask", "position_ids", *cache_names(PAST, len(sizes))]
        return program_to_onnx(program, inputs, ["logits", *cache_names(PRESENT, len(sizes))])


class _Step(nn.Module):
    """One call of the net with a cache as tensors; places: of the layers that have one."""

    def __init__(self, net: Any, places: list[int]) -> None:
        super().__init__()
        self.net, self.places = net, places
        named = inspect.signature(net.forward).parameters
        self.cache = "cache" if "cache" in named else "past_key_values"  # as the library called it before

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        cache = transformers().DynamicCache()
        for place, key, value in zip(self.places, past[::2], past[1::2], strict=True):
            cache.update(key, value, place)
        given = {self.cache: cache, "attention_mask": attention_mask, "position_ids": position_ids}
        logits = self.net(input_ids=input_ids, use_cache=True, **given).logits
        layers = [cache.layers[place] for place in self.places]
        return logits, [tensor for layer in layers for tensor in (layer.keys, layer.values)]


def _layers(net: Any) -> list[Sizes]:
    (family,) = family_of(net.config.model_type)
    return [family.sizes_of(layer, head_dim_of(net.config)) for layer in family.layers_of(net).children()]


def _attentions(net: Any) -> list[Sizes]:
    """Heads of the layers with attention."""
    return [Sizes(**{**vars(each), "hidden": 0}) for each in _layers(net) if each.kv_heads]


def check_decoder(decoder: OnnxDecoder, net: Any, prompt: Tensor) -> None:
    """Error: the file has other logits on the prompt than the net, or continues it otherwise."""
    own = net.generation_config
    ends = [] if own.eos_token_id is None else torch.tensor(own.eos_token_id).flatten().tolist()
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": ends or None, "pad_token_id": 0}
    greedy = transformers().GenerationConfig(**settings)
    mask = torch.ones_like(prompt)
    with torch.no_grad():
        expected = net(input_ids=prompt, attention_mask=mask).logits
        text = net.generate(prompt, attention_mask=mask, generation_config=greedy)
    error = float((decoder(prompt) - expected).abs().max() / expected.abs().max().clamp(min=1))
    if not error <= TOLERANCE:
        raise UserError(f"the ONNX file differs from the net by {error:.1e} in its logits; not written")
    result = decoder.generate(prompt, NEW_TOKENS, eos_token_ids=ends)
    if not torch.equal(result, text):
        length = min(result.shape[1], text.shape[1])
        alike = int((result[:, :length] == text[:, :length]).long().cumprod(-1).sum()) - prompt.shape[1]
        raise UserError(f"the ONNX file continues a text as the net does for {alike} tokens only; not written")


def _config(net: Any, sizes: list[Sizes]) -> dict[str, Any]:
    """`genai_config.json`, as GenAI's model builder writes it."""
    config, own, first = net.config, net.generation_config, sizes[0]
    length = config.max_position_embeddings
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": first.head_dim,
        "hidden_size": config.hidden_size,
        "inputs": {
            **{name: name for name in ("input_ids", "attention_mask", "position_ids")},
            "past_key_names": f"{PAST}.%d.key",
            "past_value_names": f"{PAST}.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": f"{PRESENT}.%d.key",
            "present_value_names": f"{PRESENT}.%d.value",
        },
        "num_attention_heads": first.kv_heads * first.group,
        "num_hidden_layers": len(sizes),
        "num_key_value_heads": first.kv_heads,
    }
    tokens = {f"{name}_token_id": getattr(own, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    tokens = {name: token for name, token in tokens.items() if token is not None}
    kind = TYPES.get(config.model_type, config.model_type)
    model = {**tokens, "context_length": length, "decoder": decoder, "type": kind, "vocab_size": config.vocab_size}
    search = {"do_sample": False, "max_length": length, "num_beams": 1, "past_present_share_buffer": False}
    return {"model": model, "search": search}
