"""Tensors by dotted names: the tree of modules that holds them, and nets that are ready to be filled with them."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..search_space.temporary import Slot

Owner = Literal["nobody", "largest", "several"]
Orders = dict[str, dict[int, Tensor]]
"""For tensors by name and their dimensions: where each entry lies that was there before they were permuted."""


class Store(nn.Module):
    """Nested empty modules that hold parameters and buffers under their dotted names.

    aliases: other names of these tensors in the nets (ties), which state dicts of the nets have.
    `statistics_of`: whose the running statistics are: the largest net's, if it alone was trained or its state dict was
    loaded, nobody's yet, or several nets'. `state_dict` keeps that beside the tensors, in its metadata.
    `orders`: where importance sorting has put what (see `adopt.order`); the largest net is given back in the order that
    it had before.
    """

    statistics_of: Owner
    orders: "Orders"

    def __init__(self, tensors: Mapping[str, Tensor], aliases: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._aliases, self.statistics_of, self.orders = dict(aliases or {}), "nobody", {}
        for name, tensor in tensors.items():
            module, local = _place(self, name)
            if isinstance(tensor, nn.Parameter):
                module.register_parameter(local, tensor)
            else:
                module.register_buffer(local, tensor)

    def trained(self, largest: bool) -> None:
        """Remember that the largest net, or another one, ran in training mode."""
        self.statistics_of = "largest" if largest and self.statistics_of != "several" else "several"

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors by name: those of a supernet, or of the largest net alone. Tied ones may come under all names.

        Error: tied tensors that differ.
        """
        for alias, name in self._aliases.items():
            if alias in state_dict and name in state_dict and not _same(state_dict[alias], state_dict[name]):
                raise UserError(f"{alias} and {name} are one tensor in the space's nets, but differ in what is loaded")
        named = OrderedDict((self._aliases.get(name, name), tensor) for name, tensor in state_dict.items())
        named._metadata = getattr(state_dict, "_metadata", {})  # type: ignore[attr-defined]
        return super().load_state_dict(named, strict, assign)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination._metadata[prefix[:-1]]["statistics"] = self.statistics_of

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, metadata: Any, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, metadata, *rest)
        whole = all(f"{prefix}{name}" in state for name, _ in self.named_buffers())
        self.statistics_of = metadata.get("statistics", "largest" if whole else "several")


def _place(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds `name`, made where it is missing, and the local name."""
    *path, local = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root, local


def home(store: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where a tensor is held: read there, as `to` and the like may put another one in its place."""
    module, local = _place(store, name)
    return (module._parameters if local in module._parameters else module._buffers), local


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and bool((a == b).all()))


def in_first_order(values: Mapping[str, Tensor], orders: Orders) -> dict[str, Tensor]:
    """The tensors as they were before they were permuted; differentiable."""
    return {name: _unsorted(value, orders[name]) if name in orders else value for name, value in values.items()}


def _unsorted(value: Tensor, order: Mapping[int, Tensor]) -> Tensor:
    result = value
    for dim, places in order.items():
        result = result.index_select(dim, places.to(value.device))
    # Without gradients it is no parameter any more, and torch's GRU chooses its kernel by that.
    return result.detach().requires_grad_(value.requires_grad) if result.is_leaf else result


def aliases_of(module: nn.Module) -> dict[str, str]:
    """Other names of tied tensors, and the first name of each."""
    tensors = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    return {name: first[id(t)] for name, t in tensors if first.setdefault(id(t), name) != name}


Where = tuple[torch.device, torch.dtype | None]
"""Device and precision (of floats; None: as they are) of tensors."""


def moved(buffer: Tensor, where: Where) -> Tensor:
    """What `module.to(device, dtype)` makes of it."""
    device, dtype = where
    return buffer.to(device, dtype if dtype is not None and buffer.is_floating_point() else buffer.dtype)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A skeleton ready to be filled: its slots, and its constants where they had to be moved."""

    where: Where | None
    slots: list[Slot]
    constants: dict[str, Tensor]
