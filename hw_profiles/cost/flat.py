"""A module as a function from named tensors to named tensors: the form that exporters, files and runtimes use."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.inputs import Inputs, arguments, call, map_tensors, tensors_in
from ...search_space.inputs import named_tensors_in as named_tensors_in


def plain(value: Any) -> Any:
    """The same outputs without the classes of their author: tensors in tuples and in dicts."""
    if isinstance(value, Tensor):
        return value
    if is_dataclass(value) and not isinstance(value, type) and not isinstance(value, Mapping):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items() if any(named_tensors_in(part))}
    return tuple(plain(part) for part in value if any(named_tensors_in(part)))


def input_names(module: nn.Module, inputs: Inputs) -> list[str]:
    """A name for each tensor of an example: its keyword, or that of the argument of `forward`.

    A name that a parameter has gets the ending `_in`: both are names of one ONNX graph.
    """
    args, keywords = arguments(inputs)
    own = list(inspect.signature(module.forward).parameters.values())
    named = [p.name for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][: len(args)]
    named += [f"input_{at}" for at in range(len(named), len(args))]
    names = [name for name, _ in named_tensors_in({**dict(zip(named, args, strict=True)), **keywords})]
    return _distinct(names, _own_names(module), "in")


def _own_names(module: nn.Module) -> set[str]:
    return {name for name, _ in (*module.named_parameters(), *module.named_buffers())}


@dataclass(frozen=True, eq=False)
class Flat:
    """`module` on inputs like an example, with its tensors as arguments and a tuple of tensors as result.

    tensors: the example's. inputs, outputs: a name for each tensor that comes and goes.
    """

    module: nn.Module
    tensors: tuple[Tensor, ...]
    inputs: list[str]
    outputs: list[str]

    @classmethod
    def of(cls, module: nn.Module, example: Inputs) -> "Flat":
        """Errors: those of `run`."""

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            values = iter(tensors)
            inputs: Inputs = map_tensors(lambda _: next(values), example)
            return tuple(tensors_in(call(module, inputs)))

        with torch.no_grad():
            outputs = [name for name, _ in named_tensors_in(run(module, example))]
        inputs = input_names(module, example)
        distinct = _distinct(outputs, _own_names(module).union(inputs), "out")
        return cls(_Function(module, function), tensors_of(example), inputs, distinct)


class _Function(nn.Module):
    """A function of `module`. It shares the tables of the module: parameters and submodules have the same names."""

    def __init__(self, module: nn.Module, function: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self._parameters, self._buffers, self._modules = module._parameters, module._buffers, module._modules
        self.training = module.training
        self.__function = function  # no name that a submodule might have

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.__function(*tensors)


class Plain(nn.Module):
    """`module` with the outputs of `plain`, called as the module is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._parameters, self._buffers, self._modules = module._parameters, module._buffers, module._modules
        self.training = module.training
        # By its signature torch.export tells arguments from keywords.
        vars(self)["forward"] = wraps(module.forward)(lambda *args, **keywords: plain(module(*args, **keywords)))


def run(module: nn.Module, inputs: Inputs) -> Any:
    """`module(inputs)`. Errors: the module does not take them, or gives no tensor."""
    try:
        outputs = call(module, inputs)
    except Exception as error:
        shapes = ", ".join(f"{name} {tuple(x.shape)} {x.dtype}" for name, x in named_tensors_in(inputs, "input"))
        raise UserError(f"{type(module).__name__} does not take the example ({shapes}): {_reason(error)}") from error
    if not any(named_tensors_in(outputs)):
        raise UserError(f"{type(module).__name__} returns {type(outputs).__name__} without a tensor in it")
    return outputs


def check_free_batch(module: nn.Module, inputs: Inputs, rows: int) -> None:
    """Error: the module takes no batch of `rows`."""
    try:
        call(module, with_rows(inputs, rows))
    except Exception as error:
        raise UserError(
            f"the batch of {type(module).__name__} cannot stay free: it takes a first dimension of "
            f"{batch_size(inputs)}, as in the example, and none of {rows} ({_reason(error)}); make the batch the first "
            "dimension of all inputs, or use the formats safetensors and onnx-fixed"
        ) from error


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors of an example, in the order in which `map_tensors` meets them."""
    results: list[Tensor] = []
    map_tensors(lambda x: results.append(x) or x, inputs)  # type: ignore[func-returns-value]
    if not results:
        raise UserError("the example has no tensor; give a tensor, a sequence of arguments or a mapping of keywords")
    return tuple(results)


def with_rows(inputs: Inputs, rows: int) -> Any:
    """The same inputs with a batch of another size, made of the first row. What has no batch is left as it is."""
    size = batch_size(inputs)
    return map_tensors(lambda x: torch.cat([x[:1]] * rows) if x.dim() and len(x) == size else x, inputs)


def is_tokens(x: Tensor) -> bool:
    """Whether an input has a token in each column, or a mask of them."""
    return x.dim() == 2 and not x.is_floating_point()


def shorter(inputs: Inputs) -> Any:
    """The same inputs with half the columns of tokens and masks."""
    return map_tensors(lambda x: x[:, : max(x.shape[1] // 2, 1)] if is_tokens(x) else x, inputs)


def batch_size(inputs: Inputs) -> int:
    """The first dimension of the first tensor that has any. Error: none has, or there is no row."""
    size = next((len(x) for x in tensors_of(inputs) if x.dim()), 0)
    if size == 0:
        raise UserError("the example has no first dimension that could be a batch, or an empty one")
    return size


def _distinct(names: Sequence[str], taken: set[str], ending: str) -> list[str]:
    results: list[str] = []
    for name in names:
        free = name if name not in taken else f"{name}_{ending}"
        results.append(free if free not in results else f"{free}_{len(results)}")
    return results


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
