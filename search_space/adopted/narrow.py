"""Narrowing a module in place: it keeps its class, and its parameters become meta tensors of other sizes."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..layout import Layout

Factors = Sequence[int]


def resize(layer: nn.Module, outputs: Factors | None = None, inputs: Factors | None = None) -> None:
    """Give a linear layer these sides, as products of axes: `resize(o_proj, inputs=(kv_heads, group, head_dim))`.

    layer: `nn.Linear`, or the `Conv1D` of transformers, whose weight is transposed. None: the side stays as it is.
    The layer remembers the axes (`layouts`), of which the supernet cuts the corners one by one.
    """
    rows, columns = (0, 1) if isinstance(layer, nn.Linear) else (1, 0)
    declared: dict[str, Layout] = dict(getattr(layer, "layouts", {}))
    for name, parameter in list(layer.named_parameters(recurse=False)):
        layout = list(declared.get(name, tuple((n,) for n in parameter.shape)))
        if outputs is not None:
            layout[rows if name == "weight" else 0] = tuple(outputs)
        if inputs is not None and name == "weight":
            layout[columns] = tuple(inputs)
        declared[name] = tuple(layout)
        _reshape(layer, name, [prod(factors) for factors in layout])  # type: ignore[arg-type]
    layer.layouts = declared  # type: ignore[assignment]
    _state_sizes(layer, rows, columns)


def _state_sizes(layer: Any, rows: int, columns: int) -> None:
    """The sizes that the layer keeps beside its weight."""
    names = ("out_features", "in_features") if isinstance(layer, nn.Linear) else ("nf", "nx")
    for name, dim in zip(names, (rows, columns), strict=True):
        setattr(layer, name, layer.weight.shape[dim])


def _reshape(layer: nn.Module, name: str, shape: Sequence[int]) -> None:
    old: Tensor = getattr(layer, name)
    if list(old.shape) != list(shape):
        setattr(layer, name, nn.Parameter(torch.empty(shape, dtype=old.dtype, device="meta"), old.requires_grad))


def keep_layers(layers: nn.Module, kept: Sequence[int]) -> None:
    """Remove the other layers of an `nn.ModuleList` or `nn.Sequential`; those kept keep their names."""
    for name in list(layers._modules):
        if int(name) not in kept:
            del layers._modules[name]


def module_named(net: nn.Module, suffix: str) -> nn.Module:
    """The one module whose name ends so, by whole words. Error: none, or several."""
    names = [name for name, _ in net.named_modules() if name == suffix or name.endswith(f".{suffix}")]
    if len(names) != 1:
        raise UserError(f"{type(net).__name__} has {len(names)} modules named {suffix!r}; this family needs one")
    return net.get_submodule(names[0])


class NoAttention(nn.Module):
    """Takes the place of an attention that is left out: adds nothing to the residual, and writes no cache."""

    def forward(self, hidden_states: Tensor, *others: Any, **named: Any) -> tuple[Tensor, None]:
        del others, named
        return torch.zeros_like(hidden_states), None


class Zeros(nn.Module):
    """Takes the place of a projection that is left out: zeros of its width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros((*x.shape[:-1], self.width))


def replace_modules(root: nn.Module, replacements: Mapping[str, nn.Module]) -> None:
    """Put each module in the place of its path below `root`."""
    for path, module in replacements.items():
        parent, _, name = path.rpartition(".")
        setattr(root.get_submodule(parent), name, module)
