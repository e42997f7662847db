"""Norms whose outputs have a scale for each channel, folded into them and into the layers that read them (RepQ-ViT)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...search_space.inputs import Inputs
from ...search_space.quantization import Scheme, policy_of
from .blockwise import Blocks
from .quantizers import Affine
from .repq import Reparameterized, reparameterize
from .settings import PostTraining, fit_steps, rounded
from .traffic import Traffic, answers_of, batches_of

GAIN = 1.4
"""Scales for each channel of a norm's outputs are taken below this share of the readers' error, on rows that ranges
were not fitted to. Above 1: ranges are fitted to half of the rows for that, and to all of them afterwards."""
EQUAL = 1e-5
"""A norm and its readers were rewritten rightly if no output moves by more, relative to the largest."""


def fold_norms(
    net: nn.Module, inputs: Inputs, traffic: Traffic, settings: PostTraining, blocks: Blocks | None
) -> dict[str, Affine]:
    """Rewrite the norms whose readers all are parts and gain by it; the one scale of their outputs, by reader.

    blocks: how important outputs are; None: all alike.
    """
    policy, gaining, inputs = policy_of(net), dict[str, _Feeds](), batches_of(inputs)[0]
    held = Counter(id(p) for _, p in net.named_parameters(remove_duplicate=False))
    for norm, readers in traffic.readers.items():
        schemes, outputs = [policy[name] for name in readers], traffic.inputs[readers[0]]
        kinds = {(s.activations, s.signed, s.format) for s in schemes}
        if (
            len(kinds) > 1 or schemes[0].activations == 16 or schemes[0].format or schemes[0].dynamic
        ):  # a float's steps follow its channel
            continue
        if outputs.shape[1] != len(net.get_submodule(norm).weight):  # type: ignore[arg-type]
            continue
        modules = [net.get_submodule(name) for name in readers]
        if any(held[id(m.weight)] > 1 for m in modules):  # a tied weight is read elsewhere, too
            continue
        felt = [1.0 if blocks is None else blocks.felt[n].channels(m) for n, m in zip(readers, modules, strict=True)]
        feeds = _Feeds(net.get_submodule(norm), modules, schemes, settings, felt)
        if feeds.gain(outputs):
            gaining[norm] = feeds
    if not gaining:
        return {}
    expected = answers_of(net, inputs)
    result = _rewritten(net, inputs, expected, traffic, gaining)
    if result is not None:
        return result
    alone = (_rewritten(net, inputs, expected, traffic, {norm: feeds}) for norm, feeds in gaining.items())
    return {name: affine for some in alone if some is not None for name, affine in some.items()}


def _rewritten(
    net: nn.Module, inputs: Inputs, expected: Sequence[Tensor], traffic: Traffic, norms: Mapping[str, "_Feeds"]
) -> dict[str, Affine] | None:
    """The scales of these norms' outputs, by reader. None, and nothing changed: something more reads one of them."""
    touched = [m for feeds in norms.values() for m in (feeds.norm, *feeds.linears)]
    before = [(p, p.clone()) for m in touched for p in m.parameters()]
    results = dict[str, Affine]()
    for norm, feeds in norms.items():
        readers = traffic.readers[norm]
        results |= dict.fromkeys(readers, feeds.rewrite(traffic.inputs[readers[0]]))
    pairs = zip(answers_of(net, inputs), expected, strict=True)
    if all((y - wanted).abs().max() <= EQUAL * wanted.abs().max() for y, wanted in pairs):
        return results
    for parameter, values in before:
        parameter.copy_(values)
    return None


@dataclass(frozen=True, eq=False)
class _Feeds:
    """A norm and the layers that read it. felt: how important the outputs of each layer are, (out,)."""

    norm: Any
    linears: Sequence[Any]
    schemes: Sequence[Scheme]
    settings: PostTraining
    felt: Sequence[Tensor | float]

    def gain(self, outputs: Tensor) -> bool:
        """Whether scales for each channel serve rows that they were not fitted to.

        A channel's range is seen on few rows: of 8 bits, the clipping of others costs more than narrower steps gain.
        """
        fitted, others = outputs.chunk(2)
        channels, changed = self.changed(fitted)
        shifted = others + channels.scale * (channels.zero - changed.affine.zero)
        moved = shifted / (channels.scale / changed.affine.scale)
        error = self.error(moved, changed.affine, [weight for weight, _ in changed.linears])
        return error < GAIN * self.error(others, self.fit(fitted), [m.weight for m in self.linears])

    def changed(self, outputs: Tensor) -> tuple[Affine, Reparameterized]:
        """The scales of the channels, and what norm and readers become. Where a bias is missing nothing is shifted."""
        channels = self.fit(outputs, symmetric=not self.shifting, axis=1)
        given = [(m.weight, m.bias) for m in self.linears]
        return channels, reparameterize(self.norm.weight, getattr(self.norm, "bias", None), given, channels)

    def rewrite(self, outputs: Tensor) -> Affine:
        """Change them in place; the one scale of the norm's outputs."""
        _, changed = self.changed(outputs)
        self.norm.weight.copy_(changed.gamma)
        for module, (weight, bias) in zip(self.linears, changed.linears, strict=True):
            module.weight.copy_(weight)
            if self.shifting:
                module.bias.copy_(bias)
        if getattr(self.norm, "bias", None) is not None:
            self.norm.bias.copy_(changed.beta)
        return changed.affine

    @property
    def shifting(self) -> bool:
        biased = all(getattr(m, "bias", None) is not None for m in (self.norm, *self.linears))
        return biased and not any(_pads_with_zeros(m) for m in self.linears)

    def fit(self, outputs: Tensor, *, symmetric: bool = False, axis: int | None = None) -> Affine:
        return fit_steps(outputs, self.schemes[0], self.settings, symmetric=symmetric, axis=axis)

    def error(self, x: Tensor, activation: Affine, weights: Sequence[Tensor]) -> float:
        """Squared error of the readers' outputs, weights quantized to the nearest codes."""
        near, total = activation(x), 0.0
        for weight, scheme, felt in zip(weights, self.schemes, self.felt, strict=True):
            codes = rounded(weight, scheme, self.settings)
            total += float(((_read(x, weight) - _read(near, codes)).square().sum((0, 2)) * felt).sum())
        return total


def _pads_with_zeros(module: Any) -> bool:
    """Zeros beside the outputs of a norm stay zeros when these are shifted."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d) or module.padding_mode != "zeros":
        return False
    return module.padding != "valid" if isinstance(module.padding, str) else any(module.padding)


def _read(x: Tensor, weight: Tensor) -> Tensor:
    """What a layer makes of the rows (rows, channels), (rows, out, taps): each tap of a convolution by itself."""
    groups = x.shape[1] // weight.shape[1]
    taps = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).movedim(2, -1).flatten(1, 2)
    return torch.einsum("rgc,gtc->rgt", x.view(len(x), groups, -1), taps).reshape(len(x), len(weight), -1)
