"""Buffers that a net's state dict holds: running statistics, and constants such as masks and tables."""

from collections.abc import Mapping

from torch import Tensor, nn

from .layout import Layout


def persistent_buffers(root: nn.Module) -> dict[str, Tensor]:
    """By name, each once (ties keep their first name)."""
    outside = {
        f"{prefix}.{local}" if prefix else local
        for prefix, module in root.named_modules()
        for local in module._non_persistent_buffers_set
    }
    return {name: buffer for name, buffer in root.named_buffers() if name not in outside}


def buffer_layouts(root: nn.Module, layouts: Mapping[str, Layout]) -> dict[str, Layout]:
    """The layout of every persistent buffer by its full name: that of its module's parameter of the same shape, if any.

    A norm's statistics lie as its weight does. layouts: of the net's parameters.
    """
    result: dict[str, Layout] = {}
    for name, buffer in persistent_buffers(root).items():
        path = name.rpartition(".")[0]
        siblings = root.get_submodule(path).named_parameters(prefix=path, recurse=False)
        like = [layouts[n] for n, p in siblings if n in layouts and p.shape == buffer.shape]
        result[name] = like[0] if like else tuple((n,) for n in buffer.shape)
    return result
