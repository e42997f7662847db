"""Models of the transformers library whose layers have sizes of their own: narrower, or without some of their parts.

This file lies beside the weights of such a model and needs torch and transformers alone. `config.json` names its class
(`auto_map`), and says under "narrowed" of each list of layers where the parts of a layer are, and their sizes:

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

`NarrowedLlamaForCausalLM` is `LlamaForCausalLM` whose layers are narrowed after they were built; any class of the
library can be had so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

Factors = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the parts of a layer are: names of modules, from a layer on.

    layers: the end of the name of the list of layers. attention: the module whose `layer_idx` addresses the cache.
    query, key, value, output: linear layers. fused: the one layer that computes the first three, in their place.
    output: none, where heads are no choice.
    ffn_in: linear layers whose outputs are the hidden channels, of which a layer may lack some; ffn_out: reads them.
    counts: attributes of the attention, and what they count: "kv_heads", "group" (query heads that share a key/value
    head) or "channels" (of all query heads).
    no_attention, no_ffn: what takes the place of modules where this half is left out: "attention" and "zeros" add
    nothing, "identity" passes on.
    """

    layers: str
    attention: str
    output: str
    ffn_in: Sequence[str]
    ffn_out: str
    counts: Mapping[str, str]
    no_attention: Mapping[str, str]
    no_ffn: Mapping[str, str]
    query: str = ""
    key: str = ""
    value: str = ""
    fused: str = ""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a layer; 0 key/value heads: it has no attention; 0 hidden channels: it has no FFN.

    group: query heads that share a key/value head. head_dim: channels of a head.
    """

    kv_heads: int
    group: int
    head_dim: int
    hidden: int

    def count(self, what: str) -> int:
        """One of the words of `Parts.counts`."""
        channels = self.kv_heads * self.group * self.head_dim
        return {"kv_heads": self.kv_heads, "group": self.group, "channels": channels}[what]


def narrow(layer: nn.Module, parts: Parts, sizes: Sizes) -> None:
    """Give a layer these sizes, in place. Its weights become leading parts of what they were."""
    if not parts.output:
        pass  # heads stay as they are
    elif sizes.kv_heads:
        narrow_attention(layer, parts, sizes)
    else:
        leave_out(layer, parts, parts.no_attention)
    if sizes.hidden:
        narrow_ffn(layer, parts, sizes.hidden)
    else:
        leave_out(layer, parts, parts.no_ffn)


def narrow_attention(layer: nn.Module, parts: Parts, sizes: Sizes) -> None:
    """Keep this many key/value heads, and query heads that share each."""
    kv_heads, group, head_dim = sizes.kv_heads, sizes.group, sizes.head_dim
    queries = (kv_heads, group, head_dim) if group > 1 or not parts.fused else (kv_heads, head_dim)
    if parts.fused:
        resize(layer.get_submodule(parts.fused), (3, *queries))
    else:
        resize(layer.get_submodule(parts.query), queries)
        for name in (parts.key, parts.value):
            resize(layer.get_submodule(name), (kv_heads, head_dim))
    resize(layer.get_submodule(parts.output), inputs=queries)
    for attribute, what in parts.counts.items():
        setattr(layer.get_submodule(parts.attention), attribute, sizes.count(what))


def narrow_ffn(layer: nn.Module, parts: Parts, hidden: int) -> None:
    """Keep this many hidden channels."""
    present = dict(layer.named_modules())
    for name in filter(present.__contains__, parts.ffn_in):
        resize(present[name], (hidden,))
    resize(layer.get_submodule(parts.ffn_out), inputs=(hidden,))


def leave_out(layer: nn.Module, parts: Parts, replacements: Mapping[str, str]) -> None:
    """Put what adds nothing in the place of modules."""
    width = sides_of(layer.get_submodule(parts.ffn_out))[0]
    makers: dict[str, Any] = {"attention": NoAttention, "identity": nn.Identity, "zeros": lambda: Zeros(width)}
    for path, kind in replacements.items():
        parent, _, name = path.rpartition(".")
        setattr(layer.get_submodule(parent), name, makers[kind]())


def sides_of(layer: Any) -> tuple[int, int]:
    """Outputs and inputs of a linear layer."""
    rows, columns = layer.weight.shape
    return (rows, columns) if isinstance(layer, nn.Linear) else (columns, rows)


def resize(layer: nn.Module, outputs: Factors | None = None, inputs: Factors | None = None) -> None:
    """Give a linear layer these sides, as products of axes: `resize(o_proj, inputs=(kv_heads, group, head_dim))`.

    layer: `nn.Linear`, or the `Conv1D` of transformers, whose weight is transposed. None: the side stays as it is.
    The layer remembers the axes of each dimension (`layouts`).
    """
    rows, columns = (0, 1) if isinstance(layer, nn.Linear) else (1, 0)
    declared: dict[str, Any] = dict(getattr(layer, "layouts", {}))
    for name, parameter in list(layer.named_parameters(recurse=False)):
        layout = list(declared.get(name, tuple((n,) for n in parameter.shape)))
        if outputs is not None:
            layout[rows if name == "weight" else 0] = tuple(outputs)
        if inputs is not None and name == "weight":
            layout[columns] = tuple(inputs)
        declared[name] = tuple(layout)
        _cut(layer, name, [prod(factors) for factors in layout])
    layer.layouts = declared  # type: ignore[assignment]
    names = ("out_features", "in_features") if isinstance(layer, nn.Linear) else ("nf", "nx")
    for name, size in zip(names, sides_of(layer), strict=True):
        setattr(layer, name, size)


def _cut(layer: nn.Module, name: str, shape: Sequence[int]) -> None:
    old: nn.Parameter = getattr(layer, name)
    if list(old.shape) != list(shape):
        part = old.detach()[tuple(slice(n) for n in shape)].clone()
        setattr(layer, name, nn.Parameter(part, old.requires_grad))


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


def layers_of(net: nn.Module, parts: Parts) -> nn.Module:
    """The list of layers. Error: no module, or several, have a name that ends so."""
    names = [name for name, _ in net.named_modules() if f".{name}".endswith(f".{parts.layers}")]
    if len(names) != 1:
        raise ValueError(f"{type(net).__name__} has {len(names)} modules named {parts.layers!r}; one is needed")
    return net.get_submodule(names[0])


def __getattr__(name: str) -> Any:
    """`Narrowed` and the name of a model or a config of the library, as `auto_map` names classes."""
    import transformers

    base = getattr(transformers, name.removeprefix("Narrowed"), None)
    if base is None or not name.startswith("Narrowed"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return narrowed(base)


@cache
def narrowed(base: Any) -> Any:
    """A model class whose layers have the sizes that its config lists, or the class of such configs.

    Configs have another `model_type` than the library's: without this file a model is refused, and not half loaded.
    """
    from transformers import PreTrainedConfig

    named = {"__module__": __name__}
    if issubclass(base, PreTrainedConfig):
        return type(f"Narrowed{base.__name__}", (base,), {**named, "model_type": f"narrowed-{base.model_type}"})

    def __init__(self: Any, config: Any, *others: Any, **keywords: Any) -> None:
        base.__init__(self, config, *others, **keywords)
        for stack in config.narrowed:
            parts = Parts(**stack["parts"])
            for layer, sizes in zip(layers_of(self, parts).children(), stack["layers"], strict=True):
                narrow(layer, parts, Sizes(**sizes))

    config_class = narrowed(base.config_class)
    return type(f"Narrowed{base.__name__}", (base,), {**named, "__init__": __init__, "config_class": config_class})
