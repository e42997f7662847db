"""Post-training quantization: from a float net with a policy and some inputs to codes and scales, in milliseconds."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.quantization import Scheme, policy_of
from .floats import Float8
from .observers import fit, observer
from .quantized import Part, Quantized, Quantizer, apply, half
from .quantizers import Affine
from .repq import Reparameterized, reparameterize
from .rounding import gptq, hessian, nearest
from .traffic import Traffic, observe

SAMPLES = 32
"""Inputs to calibrate on, as in RepQ-ViT."""
GAIN = 1.4
"""Scales for each channel of a norm's outputs are taken below this share of the readers' error, on rows that ranges
were not fitted to. Above 1: ranges are fitted to half of the rows for that, and to all of them afterwards."""
CLIPPED = 6
"""Activations of fewer bits have ranges by the observer, others by all that was seen: other inputs go beyond anyway."""
EQUAL = 1e-3
"""A norm and its readers were rewritten rightly if no output moves by more, relative to the largest."""


@dataclass(frozen=True)
class PostTraining:
    """How scales and codes are found.

    activations, weights: observers (`observers.OBSERVERS`) of fewer than 6 and 8 bits; others have the whole range.
    compensated: weights of so many bits or fewer are rounded so that they make up for each other's errors (GPTQ);
    others to the nearest. reparameterized: the outputs of norms may have a scale for each channel, which costs nothing
    when the net runs (RepQ-ViT); they have it where the layers behind gain by it. per_channel: a scale for each row of
    a weight (or each group); else one for all of it.
    """

    activations: str = "percentile_0.999"
    weights: str = "mse"
    compensated: int = 4
    reparameterized: bool = True
    per_channel: bool = True

    def __post_init__(self) -> None:
        observer(self.activations), observer(self.weights)


PLAIN = PostTraining("min_max", "min_max", 0, reparameterized=False, per_channel=False)
"""What everything better is measured against."""


@torch.no_grad()
def quantize(module: nn.Module, inputs: Tensor, settings: PostTraining | None = None) -> Quantized:
    """The net with the policy that its parts carry (`space.quantized`); `module` itself stays as it is.

    inputs: (samples, ...), as the net takes them. Errors: inputs that are not finite or that the net does not take.
    """
    settings = settings or PostTraining()
    if len(inputs) == 0 or not inputs.isfinite().all():
        raise UserError("the calibration data are empty or not finite; some inputs of the training split are right")
    net = deepcopy(module).eval()
    policy = policy_of(net)
    if not policy:
        return Quantized(net)
    try:
        traffic = observe(net, inputs, policy)
    except RuntimeError as error:
        raise UserError(f"the net does not take calibration data of shape {tuple(inputs.shape)}: {error}") from error
    shared = _reparameterized(net, inputs, policy, traffic, settings) if settings.reparameterized else {}
    if shared:
        traffic = observe(net, inputs, policy)
    parts = {n: _part(net.get_submodule(n), s, traffic.inputs.get(n), settings) for n, s in policy.items()}
    for name, activation in shared.items():
        parts[name] = replace(parts[name], activation=activation)
    return apply(net, parts)


def _part(module: Any, scheme: Scheme, inputs: Tensor | None, settings: PostTraining) -> Part:
    """inputs: (rows, channels), what comes in on the calibration data; None: indices."""
    activation = None
    if inputs is not None and scheme.activations < 16:
        activation = _activation(inputs, scheme, settings)
    if scheme.weights == 16:
        return Part(scheme, activation=activation)
    flat = module.weight.detach().flatten(1)
    weight = _weight(flat, scheme, settings, grouped=module.weight.dim() == 2)
    if isinstance(weight, Float8):
        return Part(scheme, weight, weight.codes(module.weight.detach()), activation)
    careful = scheme.weights <= settings.compensated and inputs is not None and inputs.shape[1] == flat.shape[1]
    codes = gptq(flat, hessian(inputs), weight) if careful and inputs is not None else nearest(flat, weight)
    return Part(scheme, weight, codes.view(module.weight.shape).to(torch.int8), activation)


def _activation(rows: Tensor, scheme: Scheme, settings: PostTraining) -> Quantizer:
    return Float8.of(rows) if scheme.format == "fp8" else _activation_affine(rows, scheme, settings)


def _activation_affine(
    rows: Tensor, scheme: Scheme, settings: PostTraining, *, symmetric: bool = False, axis: int | None = None
) -> Affine:
    observed = settings.activations if scheme.activations < CLIPPED else "min_max"
    symmetric = symmetric or scheme.signed
    return fit(observed, rows, scheme.activations, symmetric=symmetric, signed=scheme.signed, axis=axis)


def _weight(flat: Tensor, scheme: Scheme, settings: PostTraining, *, grouped: bool = True) -> Quantizer:
    found = _weight_found(flat, scheme, settings, grouped)
    return replace(found, scale=found.scale.half().float())  # which files hold in two bytes


def _weight_found(flat: Tensor, scheme: Scheme, settings: PostTraining, grouped: bool) -> Quantizer:
    along: dict[str, int] = {}
    if settings.per_channel and not scheme.whole:
        along = {"group": scheme.group} if scheme.group is not None and grouped else {"axis": 0}
    if scheme.format == "fp8":
        return Float8.of(flat, rows=bool(along))
    observed = settings.weights if scheme.weights < 8 else "min_max"  # of 256 steps none is to be saved
    return fit(observed, flat, scheme.weights, symmetric=not scheme.zeros, signed=True, **along)


# Norms whose outputs have a scale for each channel


def _reparameterized(
    net: nn.Module, inputs: Tensor, policy: Mapping[str, Scheme], traffic: Traffic, settings: PostTraining
) -> dict[str, Affine]:
    """Rewrite the norms whose readers all are parts and gain by it; the one scale of their outputs, by reader."""
    gaining = {}
    for norm, readers in traffic.readers.items():
        schemes = [policy[name] for name in readers]
        kinds = {(s.activations, s.signed, s.format) for s in schemes}
        if len(kinds) > 1 or schemes[0].activations == 16 or schemes[0].format:  # a float's steps follow its channel
            continue
        feeds = _Feeds(net.get_submodule(norm), [net.get_submodule(name) for name in readers], schemes, settings)
        if feeds.gain(traffic.inputs[readers[0]]):
            gaining[norm] = feeds
    if not gaining:
        return {}
    expected = net(inputs)
    found = _rewritten(net, inputs, expected, traffic, gaining)
    if found is not None:
        return found
    alone = (_rewritten(net, inputs, expected, traffic, {norm: feeds}) for norm, feeds in gaining.items())
    return {name: affine for some in alone if some is not None for name, affine in some.items()}


def _rewritten(
    net: nn.Module, inputs: Tensor, expected: Tensor, traffic: Traffic, norms: Mapping[str, "_Feeds"]
) -> dict[str, Affine] | None:
    """The scales of these norms' outputs, by reader. None, and nothing changed: something more reads one of them."""
    touched = [m for feeds in norms.values() for m in (feeds.norm, *feeds.linears)]
    before = [(p, p.clone()) for m in touched for p in m.parameters()]
    found = dict[str, Affine]()
    for norm, feeds in norms.items():
        readers = traffic.readers[norm]
        found |= dict.fromkeys(readers, feeds.rewrite(traffic.inputs[readers[0]]))
    if _same(net(inputs), expected):
        return found
    for parameter, values in before:
        parameter.copy_(values)
    return None


@dataclass(frozen=True, eq=False)
class _Feeds:
    """A norm and the layers that read it."""

    norm: Any
    linears: Sequence[Any]
    schemes: Sequence[Scheme]
    settings: PostTraining

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
        """The scales of the channels, and what norm and readers become. Without a bias everywhere nothing shifts."""
        channels = self.fit(outputs, symmetric=not self.shifting, axis=1)
        given = [(m.weight, m.bias) for m in self.linears]
        return channels, reparameterize(self.norm.weight, self.norm.bias if self.shifting else None, given, channels)

    def rewrite(self, outputs: Tensor) -> Affine:
        """Change them in place; the one scale of the norm's outputs."""
        _, changed = self.changed(outputs)
        self.norm.weight.copy_(changed.gamma)
        for module, (weight, bias) in zip(self.linears, changed.linears, strict=True):
            module.weight.copy_(weight)
            if self.shifting:
                module.bias.copy_(bias)
        if self.shifting:
            self.norm.bias.copy_(changed.beta)
        return changed.affine

    @property
    def shifting(self) -> bool:
        return all(getattr(m, "bias", None) is not None for m in (self.norm, *self.linears))

    def fit(self, outputs: Tensor, *, symmetric: bool = False, axis: int | None = None) -> Affine:
        return _activation_affine(outputs, self.schemes[0], self.settings, symmetric=symmetric, axis=axis)

    def error(self, x: Tensor, activation: Affine, weights: Sequence[Tensor]) -> float:
        """Squared error of the readers' outputs, weights quantized to the nearest codes."""
        rounded, total = activation(x), 0.0
        for weight, scheme in zip(weights, self.schemes, strict=True):
            codes = _weight(weight, scheme, self.settings)(weight) if scheme.weights < 16 else half(weight, scheme)
            total += float((x @ weight.T - rounded @ codes.T).square().sum())
        return total


def _same(outputs: Tensor, expected: Tensor) -> bool:
    return bool((outputs - expected).abs().max() <= EQUAL * expected.abs().max())
