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
    family = family_of(net.config.model_type)
    sizes = [family.sizes_of(layer, head_dim_of(net.config)) for layer in family.layers_of(net).children()]
    names = renumbered(net)
    state = {names[name]: tensor for name, tensor in net.state_dict().items()}
    built = _plain(net, family, sizes, state) or _narrowed(net, family, sizes)
    if odd := _difference(built, state):
        raise UserError(f"the net has parts that a Hugging Face folder cannot say: {odd}; use the format safetensors")
    built.load_state_dict(state, assign=True)
    built.tie_weights()
    return built.eval()


def renumbered(net: Any) -> dict[str, str]:
    """Names in the state dict to those where the layers that are there are numbered from 0."""
    layers = family_of(net.config.model_type).layers_of(net)
    start = next(name for name, module in net.named_modules() if module is layers)
    places = {name: str(place) for place, (name, _) in enumerate(layers.named_children())}
    pattern = re.compile(rf"(?<={re.escape(start)}\.)(\d+)(?=\.)")
    names = [*net.state_dict(), *(name for name, _ in net.named_buffers())]
    return {n: pattern.sub(lambda m: places[m[1]], n, count=1) if n.startswith(start) else n for n in names}


def own_names(net: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the folder by the net's own names, and those that the folder leaves to the code of the net."""
    firsts = aliases_of(net)
    found = {firsts.get(own, own): tensors[name] for own, name in renumbered(net).items() if name in tensors}
    rest = {name: buffer for name, buffer in net.named_buffers() if name not in net.state_dict()}
    return {**rest, **found}


def _plain(net: Any, family: Family, sizes: Sequence[Sizes], state: Mapping[str, Tensor]) -> Any:
    """A model without values of the net's own class whose config says its sizes. None: no config of the family does."""
    if len(set(sizes)) > 1:
        return None
    config, first = net.config.to_dict(), sizes[0]
    said = {"heads": first.kv_heads * first.group, "kv_heads": first.kv_heads, "hidden": first.hidden}
    changes = {field: said[size] for size, field in family.config.items()}
    changes |= {"head_dim": first.head_dim} if "heads" in family.config else {}
    for changed in ({}, changes):
        try:
            built = prototype(type(net).__name__, {**config, **changed}, _generation(net))
        except Exception:  # configs refuse sizes in many ways
            continue
        if not _difference(built, state):
            return built
    return None


def _narrowed(net: Any, family: Family, sizes: Sequence[Sizes]) -> Any:
    """A model without values whose class narrows its layers."""
    own: Any = type(net)
    model_class = modeling_narrowed.narrowed(own)
    fields = {name: value for name, value in net.config.to_dict().items() if name != "model_type"}
    fields["narrowed"] = {"parts": family.parts, "layers": [asdict(each) for each in sizes]}
    fields["auto_map"] = _auto_map(net)
    config: Any = modeling_narrowed.narrowed(net.config_class)(**fields)
    with parameters_on_meta():
        built: Any = model_class._from_config(config)
    if net.can_generate():
        built.generation_config = net.generation_config
    return built


def _auto_map(net: Any) -> dict[str, str]:
    """Which classes of `modeling_narrowed` the library's `Auto...` take."""
    name, body = type(net).__name__, type(net.base_model).__name__
    head = re.search(r"(For\w+)$", name.replace("LMHeadModel", "ForCausalLM"))
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
