"""A net of a Llama as a GGUF file, which llama.cpp and the transformers library read."""

import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...search_space.adopted.installed import quiet_library, transformers
from ...search_space.inputs import Inputs
from .huggingface import as_library, check_adopted, check_equal

LOG = logging.getLogger("nas.run")
NAME, TOKENIZER = "model.gguf", "tokenizer."
ROPE = "default"
"""The only kind of rotary positions that the file is written for."""


def write_gguf(net: Any, example: Inputs, folder: Path) -> Path:
    """Write `model.gguf` in float32, the path of which is returned; what it gives is compared with the net.

    The tokenizer is copied where the model came from a GGUF file; llama.cpp needs it. Errors: no Llama; layers of
    several sizes, which a config of the library cannot say; the package gguf is not installed.
    """
    check_adopted(net, "gguf")
    saved, own = as_library(net), type(net)
    if type(saved) is not own or saved.config.model_type != "llama" or _rope(saved.config) != ROPE:
        raise UserError(
            "the format 'gguf' is for nets of Llamas whose layers are all of one size and have plain rotary positions; "
            "use huggingface"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".part-") as beside:
        _write(saved, Path(beside) / NAME, str(net.name_or_path))
        with quiet_library():
            loaded = own.from_pretrained(beside, gguf_file=NAME, dtype="float32").eval()
        check_equal(net, loaded, example)
        os.replace(Path(beside) / NAME, folder / NAME)
    return folder / NAME


def _rope(config: Any) -> str:
    return str((config.rope_parameters or {}).get("rope_type", ROPE))


def _write(net: Any, path: Path, source: str) -> None:
    gguf, config = _library(), net.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _copy_tokenizer(gguf, writer, source)
    for name, array in _arrays(gguf, net):
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _arrays(gguf: Any, net: Any) -> list[tuple[str, NDArray[np.float32]]]:
    """Weights by their names in the file."""
    config = net.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    arrays = []
    for name, parameter in net.named_parameters():  # of a tied head the embedding alone
        array = parameter.detach().float().numpy()
        for projection, count in heads.items():
            array = _interleaved(array, count) if f".{projection}." in name else array
        arrays.append((names.get_name(name, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(array)))
    return arrays


def _interleaved(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows in llama.cpp's order: the two channels that a position turns lie side by side, not half a head apart."""
    halves = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def _copy_tokenizer(gguf: Any, writer: Any, source: str) -> None:
    if not source.endswith(".gguf"):
        LOG.warning("%s holds no tokenizer, which only the GGUF file of a model has in this form", NAME)
        return
    for field in gguf.GGUFReader(source).fields.values():
        if field.name.startswith(TOKENIZER):
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)


def _library() -> Any:
    transformers()
    try:
        import gguf
    except ImportError:
        raise UserError("GGUF files need the package gguf; pip install gguf") from None
    return gguf
