"""A net of an adopted space as a Hugging Face folder, which `AutoModel...` loads with nothing of ours.

Where the config of the family can say the sizes of the net, the folder is one of the library alone. Else
`modeling_narrowed.py` lies beside the weights, and the folder is loaded with `trust_remote_code=True`.
"""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...hw_profiles.cost.flat import named_tensors_in, run
from ...search_space.adopted import modeling_narrowed
from ...search_space.adopted.family import Family, family_of, head_dim_of
from ...search_space.adopted.installed import quiet_library
from ...search_space.adopted.modeling_narrowed import Sizes
from ...search_space.adopted.prototype import parameters_on_meta, prototype
from ...search_space.inputs import Inputs
from ..tree import aliases_of
from .companions import copy_companions

WEIGHTS = "model.safetensors"
TOLERANCE = 1e-5
"""Of outputs, relative to the largest: the same kernels on numbers at another address may round otherwise."""


def is_adopted(net: nn.Module) -> bool:
    """Whether it is a model of the transformers library."""
    library = sys.modules.get("transformers")  # who has such a model has imported it
    return library is not None and isinstance(net, library.PreTrainedModel)


def check_adopted(net: nn.Module, format: str) -> None:
    """Error: it is another module."""
    if not is_adopted(net):
        raise UserError(
            f"{type(net).__name__} is no model of the transformers library, and has no format {format!r}; use "
            "safetensors or onnx"
        )


def write_huggingface(net: nn.Module, example: Inputs, folder: Path) -> Path:
    """Write config.json, generation_config.json, model.safetensors, and the tokenizer's files where they are known.

    Of a sentence encoder also what sentence-transformers reads. What the folder gives is compared with `net` on the
    example. Returns the path of the weights. Errors: no model of the library; it differs.
    """
    check_adopted(net, "huggingface")
    saved = as_library(net)
    check_equal(net, saved, example)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".part-") as beside:
        with quiet_library():
            saved.save_pretrained(beside, max_shard_size="1TB")
        if type(saved) is not type(net):
            shutil.copy(str(modeling_narrowed.__file__), beside)
        copy_companions(str(net.name_or_path), Path(beside))
        _move(Path(beside), folder)
    return folder / WEIGHTS


def _move(beside: Path, folder: Path) -> None:
    """Put files in place, the weights last: their presence says that all else is there."""
    files = [path for path in beside.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == WEIGHTS):
        place = folder / path.relative_to(beside)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)


def as_library(net: Any) -> Any:
    """The same net, whose layers are numbered from 0 and whose config builds it; it shares the tensors.

    It is of the net's own class, or of one of `modeling_narrowed`. Error: parts that neither builds.
    """
    stacks = _stacks(net)
    names = renumbered(net)
    state = {names[name]: tensor for name, tensor in net.state_dict().items()}
    config = net.config.to_dict() | {f.config["layers"]: len(s) for f, s in stacks if "layers" in f.config}
    built = _plain(net, config, stacks, state) or _narrowed(net, config, stacks)
    if odd := _difference(built, state):
        raise UserError(f"the net has parts that a Hugging Face folder cannot say: {odd}; use the format safetensors")
    built.load_state_dict(state, assign=True)
    built.tie_weights()
    return built.eval()


Stacks = Sequence[tuple[Family, Sequence[Sizes]]]
"""Lists of layers, with the sizes of each layer."""


def _stacks(net: Any) -> Stacks:
    head_dim = head_dim_of(net.config)
    families = family_of(net.config.model_type)
    return [(each, [each.sizes_of(layer, head_dim) for layer in each.layers_of(net).children()]) for each in families]


def renumbered(net: Any) -> dict[str, str]:
    """Names of parameters and buffers to those where the layers that are there are numbered from 0."""
    modules = {id(module): name for name, module in net.named_modules()}
    lists = [family.layers_of(net) for family in family_of(net.config.model_type)]
    renamed = {
        f"{modules[id(layers)]}.{name}.": f"{modules[id(layers)]}.{place}."
        for layers in lists
        for place, (name, _) in enumerate(layers.named_children())
    }
    names = [*net.state_dict(), *(name for name, _ in net.named_buffers())]
    starts = {name: next((start for start in renamed if name.startswith(start)), "") for name in names}
    return {name: renamed.get(start, "") + name.removeprefix(start) for name, start in starts.items()}


def read_huggingface(net: Any, folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder by the names of `net`, and those that the folder leaves to the code of the net.

    The library reads it: files have the names of the version that a family was first published with.
    """
    firsts = aliases_of(net)
    with quiet_library():
        loaded = type(as_library(net)).from_pretrained(folder, dtype="auto").state_dict()
    found = {firsts.get(own, own): loaded[name] for own, name in renumbered(net).items() if name in loaded}
    rest = {name: buffer for name, buffer in net.named_buffers() if name not in net.state_dict()}
    return {**rest, **found}


def _plain(net: Any, config: Mapping[str, Any], stacks: Stacks, state: Mapping[str, Tensor]) -> Any:
    """A model without values of the net's own class whose config says its sizes. None: no config of the family does."""
    if any(len(set(sizes)) > 1 for _, sizes in stacks):
        return None
    for changed in ({}, _said(stacks)):
        try:
            built = prototype(type(net).__name__, {**config, **changed}, _generation(net))
        except Exception:  # configs refuse sizes in many ways
            continue
        if not _difference(built, state):
            return built
    return None


def _said(stacks: Stacks) -> dict[str, Any]:
    """Fields of a config that say the sizes of all layers."""
    fields: dict[str, Any] = {}
    for family, (first, *_) in stacks:
        said = {"heads": first.kv_heads * first.group, "kv_heads": first.kv_heads, "hidden": first.hidden}
        fields |= {field: said[size] for size, field in family.config.items() if size in said}
        fields |= {"head_dim": first.head_dim} if "heads" in family.config else {}
    return fields


def _narrowed(net: Any, config: Mapping[str, Any], stacks: Stacks) -> Any:
    """A model without values whose class narrows its layers."""
    own: Any = type(net)
    model_class = modeling_narrowed.narrowed(own)
    fields = {name: value for name, value in config.items() if name != "model_type"}
    fields["narrowed"] = [{"parts": f.parts, "layers": [asdict(each) for each in sizes]} for f, sizes in stacks]
    fields["auto_map"] = _auto_map(net)
    made: Any = modeling_narrowed.narrowed(net.config_class)(**fields)
    with parameters_on_meta():
        built: Any = model_class._from_config(made)
    if net.can_generate():
        built.generation_config = net.generation_config
    return built


def _auto_map(net: Any) -> dict[str, str]:
    """Which classes of `modeling_narrowed` the library's `Auto...` take."""
    name, body = type(net).__name__, type(net.base_model).__name__
    words = name.replace("LMHeadModel", "ForCausalLM").replace("ForConditionalGeneration", "ForSeq2SeqLM")
    head = re.search(r"(For\w+)$", words)
    classes = {"AutoConfig": net.config_class.__name__, "AutoModel": body}
    classes |= {f"AutoModel{head[1]}": name} if head else {}
    return {auto: f"modeling_narrowed.Narrowed{each}" for auto, each in classes.items()}


def _generation(net: Any) -> dict[str, Any]:
    return dict(net.generation_config.to_diff_dict()) if net.can_generate() else {}


def _difference(built: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The first tensors that are not alike; empty: all are."""
    shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
    odd = [n for n in sorted({*shapes, *state}) if n not in state or shapes.get(n) != state[n].shape]
    return ", ".join(odd[:3])


def check_equal(net: nn.Module, other: nn.Module, example: Inputs) -> None:
    """Error: their outputs on the example differ."""
    with torch.no_grad():
        outputs = [dict(named_tensors_in(run(each, example))) for each in (net, other)]
    for name, expected in outputs[0].items():
        error = float((outputs[1][name] - expected).abs().max() / expected.abs().max().clamp(min=1))
        if not error <= TOLERANCE:
            raise UserError(
                f"a {type(other).__name__} of these weights differs from the net by {error:.1e} in {name!r}; not "
                "written"
            )
