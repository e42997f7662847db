"""The space of a trained model: which sizes of its layers are genes, and the function that builds its nets."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from ..space import replace_parameters
from ..trial import Trial
from .family import Family, family_of, head_dim_of
from .modeling_narrowed import Sizes, narrow
from .narrow import keep_layers
from .prototype import prototype

Fractions = tuple[Annotated[float, Field(ge=0, le=1)], ...]
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
MULTIPLE = 32
"""Hidden channels of an FFN come in multiples of it, which kernels like."""


class Elastic(BaseModel):
    """Which fractions of a model's sizes its space offers; 0 leaves the part out, 1 is always offered.

    ffn, heads: of the hidden channels and of the key/value heads of each layer; group: of the query heads that share a
    key/value head. uniform: one choice for all layers, and a gene more for each layer that may be left out.

    >>> nas.Elastic(ffn=(0.5, 1.0), heads=(1.0,), uniform=True).ffn
    (0.5, 1.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ffn: Fractions = QUARTERS
    heads: Fractions = QUARTERS
    group: Fractions = QUARTERS
    uniform: bool = False


class AdoptedSpace(BaseModel):
    """Nets cut from a model of the transformers library: a space function.

    architecture: the class. config: as `config.to_dict()` gives it; generation: the same of its generation config.
    files: where the files of the tokenizer and the like are, which nets are saved with: a folder, a .gguf file or the
        id of a model on a hub; empty: not known.
    The first layer is never left out: the model reads the length of its cache there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    config: dict[str, Any]
    generation: dict[str, Any] = {}
    files: str = ""
    elastic: Elastic = Elastic()

    @cached_property
    def stacks(self) -> Sequence[Family]:
        """The lists of layers: one, or an encoder's and a decoder's."""
        return family_of(str(self.config.get("model_type")))

    @cached_property
    def _prototype(self) -> nn.Module:
        net = prototype(self.architecture, self.config, self.generation)
        net.name_or_path = self.files  # type: ignore[assignment]  # the library's own word for it
        return net

    @cached_property
    def sizes(self) -> list[Sizes]:
        """Of the layers of each stack."""
        net, head_dim = self._prototype, head_dim_of(self._prototype.config)
        return [stack.sizes_of(next(stack.layers_of(net).children()), head_dim) for stack in self.stacks]

    def __call__(self, trial: Trial) -> nn.Module:
        net = deepcopy(self._prototype)
        for stack, sizes in zip(self.stacks, self.sizes, strict=True):
            layers = stack.layers_of(net)
            named = [(int(name), layer) for name, layer in layers.named_children()]
            kept = [index for index, layer in named if self._narrow(trial, stack, sizes, index, layer)]
            keep_layers(layers, kept)
            _count_layers(net, layers, kept, stack)
        return _filled(net)

    def _narrow(self, trial: Trial, stack: Family, sizes: Sizes, index: int, layer: nn.Module) -> bool:
        """Whether anything of the layer is left."""
        elastic, own = self.elastic, f"{stack.scope}layers.{index}."
        scope, may_go = (stack.scope, False) if elastic.uniform else (own, index > 0)
        if index and (elastic.uniform or not stack.output) and not trial.suggest_int(f"{own}keep", 0, 1):
            return False
        kv_heads = group = 0
        if stack.output:
            kv_heads = _ask(trial, f"{scope}heads", sizes.kv_heads, elastic.heads, may_go)
            group = _ask(trial, f"{scope}group", sizes.group, elastic.group, False) if kv_heads else 1
        hidden = _ask(trial, f"{scope}ffn", sizes.hidden, elastic.ffn, may_go, MULTIPLE)
        narrow(layer, stack, replace(sizes, kv_heads=kv_heads, group=group, hidden=hidden))
        return bool(kv_heads or hidden or not stack.output)


def _ask(trial: Trial, gene: str, top: int, fractions: Fractions, may_go: bool, multiple: int = 1) -> int:
    """The choice of a size; a size without a choice is no gene."""
    multiple = multiple if top % multiple == 0 else 1
    sizes = {max(round(top * f / multiple), 1) * multiple for f in fractions if f > 0} | {top}
    options = sorted(sizes | ({0} if may_go and 0 in fractions else set()))
    return int(trial.suggest_categorical(gene, options)) if len(options) > 1 else top  # type: ignore[arg-type]


def _count_layers(net: nn.Module, layers: nn.Module, kept: Sequence[int], stack: Family) -> None:
    """Number what is left, as caches and masks of the library expect it."""
    for path, name in stack.layer_counts:
        config: Any = net.get_submodule(path).config
        setattr(config, name, len(kept))
        if (types := getattr(config, "layer_types", None)) is not None:
            config.layer_types = [types[index] for index in kept]
    for place, layer in enumerate(layers.children()):
        for path in stack.cached or (stack.attention,):
            attention: Any = layer.get_submodule(path)
            attention.layer_idx = place


def _filled(net: Any) -> nn.Module:
    """On a real device, with values that the library initialises it with."""
    device = torch.get_default_device()
    if device.type != "meta":
        replace_parameters(net, lambda p: nn.Parameter(torch.empty_like(p, device=device), p.requires_grad))
        net.init_weights()
    return net  # type: ignore[no-any-return]
