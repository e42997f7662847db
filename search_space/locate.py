"""From what a user writes (`--space vit-digits | my.yaml | my.py:function`) to a space that can be found again."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..errors import UserError, unknown
from .architecture import GeneValue
from .presets import load_preset, load_space_file, preset_names
from .quantization import Quantization
from .space import SearchSpace, SpaceFunction
from .transformer import TransformerSpace
from .trial import RecordingTrial

USER_MODULE = "nas_user_"
"""How the module of a space file is called, before the file's own name."""

Description = Mapping[str, Any]
"""JSON: enough to build the same space function in another process."""


def describe_space(text: str, input_shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """Description of the space that `text` names, for inputs of `input_shape` (without batch) and `classes` outputs.

    text: a preset, a YAML file of a TransformerSpace, or FILE.py:FUNCTION. Errors: none of these.
    """
    fit = {"input_shape": list(input_shape), "classes": classes}
    path, _, name = text.rpartition(":")
    if path.endswith(".py"):
        return {"python": str(Path(path).resolve()), "function": name, "sha256": _digest(Path(path)), **fit}
    if text.endswith((".yaml", ".yml")):
        return {"transformer": load_space_file(Path(text)).model_dump(mode="json"), **fit}
    if text not in preset_names():
        raise unknown("space", text, [*preset_names(), "FILE.yaml", "FILE.py:FUNCTION"])
    return {"transformer": load_preset(text).model_dump(mode="json"), **fit}


def space_from(description: Description) -> SearchSpace:
    """The space of a description; with "quantize" (fields of a `Quantization`), its quantized one.

    A Python space is run from the file it was described with, and only if that file has not changed since.
    """
    found, policy = _described(description), description.get("quantize")
    space = found if isinstance(found, SearchSpace) else SearchSpace(found)
    return space.quantized(**policy) if policy else space


def net_from(description: Description, genes: Mapping[str, GeneValue]) -> nn.Module:
    """A new module of that space, with its policy: the function is run once, which is quicker than to know all genes.

    Errors: those of `space_from`; genes that are not those the function asks for.
    """
    found, policy = _described(description), description.get("quantize")
    trial = RecordingTrial(lambda gene: genes.get(gene.name))
    with torch.random.fork_rng(devices=[]):
        net = found.function(trial) if isinstance(found, SearchSpace) else found(trial)
    if policy:
        lists = {name: tuple(policy[name]) for name in ("schemes", "keep") if name in policy}
        Quantization(**{**policy, **lists}).ask(net, trial)
    if odd := genes.keys() - trial.values.keys():
        raise UserError(f"the space has no gene {', '.join(sorted(odd)[:4])} in this net; it was made of another space")
    return net


def _described(description: Description) -> SearchSpace | SpaceFunction:
    shape, classes = tuple(description["input_shape"]), int(description["classes"])
    if "transformer" in description:
        return TransformerSpace(**description["transformer"]).bind(input_shape=shape, classes=classes)
    path = Path(description["python"])
    if _digest(path) != description["sha256"]:
        raise UserError(
            f"{path} has changed since this was made; pass the space function yourself, or restore the file"
        )
    return _python_space(path, description["function"], shape, classes)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"the space file {path} cannot be read: {error.strerror}") from None


def _python_space(path: Path, name: str, shape: tuple[int, ...], classes: int) -> SearchSpace | SpaceFunction:
    module = _import(path)
    found = vars(module).get(name)
    if isinstance(found, SearchSpace):
        return found
    if not callable(found):
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise unknown(f"function in {path.name}", name, functions)
    return _with_fit(found, shape, classes)


def _with_fit(function: Callable[..., nn.Module], shape: tuple[int, ...], classes: int) -> Callable[[Any], nn.Module]:
    """A function that asks for `input_shape` or `classes` by name gets them from the task."""
    offered = {"input_shape": shape, "classes": classes}
    asked = {n: v for n, v in offered.items() if n in inspect.signature(function).parameters}
    return partial(function, **asked) if asked else function


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{USER_MODULE}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(path.parent))  # as `python FILE` does: the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} fails when it is imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module
