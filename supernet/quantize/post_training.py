"""Post-training quantization: from a float net with a policy and some inputs to codes and scales, in milliseconds."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.quantization import Scheme, policy_of
from .observers import fit, observer
from .quantized import Part, Quantized, apply
from .quantizers import Affine
from .repq import reparameterize
from .rounding import gptq, hessian, nearest
from .traffic import Traffic, observe

SAMPLES = 32
"""Inputs to calibrate on, as in RepQ-ViT."""
GAIN = 0.6
"""What is left of the error of a norm's readers where scales for each channel are worth while: outputs without outliers
have about the same error with one scale, and weights that have been rescaled are harder to round."""
EQUAL = 1e-3
"""A norm and its readers were rewritten rightly if no output moves by more, relative to the largest."""


@dataclass(frozen=True)
class PostTraining:
    """How scales and codes are found.

    activations, weights: observers (`observers.OBSERVERS`). compensated: weights of so many bits or fewer are rounded
    so that they make up for each other's errors (GPTQ); others to the nearest. reparameterized: the outputs of norms
    may have a scale for each channel, which costs nothing when the net runs (RepQ-ViT); they have it where the layers
    behind gain by it. per_channel: a scale for each row of a weight (or each group); else one for all of it.
    """

    activations: str = "mse"
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
        activation = fit(settings.activations, inputs, scheme.activations, symmetric=False, signed=False)
    if scheme.weights == 16:
        return Part(scheme, activation=activation)
    flat = module.weight.detach().flatten(1)
    affine = _weight_affine(flat, scheme, settings, grouped=module.weight.dim() == 2)
    careful = scheme.weights <= settings.compensated and inputs is not None and inputs.shape[1] == flat.shape[1]
    codes = gptq(flat, hessian(inputs), affine) if careful and inputs is not None else nearest(flat, affine)
    return Part(scheme, affine, codes.view(module.weight.shape).to(torch.int8), activation)


def _weight_affine(flat: Tensor, scheme: Scheme, settings: PostTraining, *, grouped: bool = True) -> Affine:
    along: dict[str, int] = {}
    if settings.per_channel:
        along = {"group": scheme.group} if scheme.group is not None and grouped else {"axis": 0}
    observed = settings.weights if scheme.weights < 8 else "min_max"  # of 256 steps none is to be saved
    found = fit(observed, flat, scheme.weights, symmetric=True, signed=True, **along)
    return replace(found, scale=found.scale.half().float())  # which files hold in two bytes


# Norms whose outputs have a scale for each channel


def _reparameterized(
    net: nn.Module, inputs: Tensor, policy: Mapping[str, Scheme], traffic: Traffic, settings: PostTraining
) -> dict[str, Affine]:
    """Rewrite the norms whose readers all are parts and gain by it; the one scale of their outputs, by reader."""
    expected, found = net(inputs), dict[str, Affine]()
    for norm, readers in traffic.readers.items():
        bits = {policy[name].activations for name in readers}
        if len(bits) > 1 or 16 in bits:
            continue
        names, outputs = (norm, *readers), traffic.inputs[readers[0]]
        before = {name: deepcopy(net.get_submodule(name).state_dict()) for name in names}
        schemes = [policy[name] for name in readers]
        linears: list[Any] = [net.get_submodule(name) for name in readers]
        plain = fit(settings.activations, outputs, *bits, symmetric=False, signed=False)
        error = _error(linears, schemes, outputs, plain, settings)
        affine, moved = _rewrite(net.get_submodule(norm), linears, outputs, bits.pop(), settings)
        gained = _error(linears, schemes, moved, affine, settings) < GAIN * error
        if gained and _same(net(inputs), expected):  # else something more reads this norm
            found |= dict.fromkeys(readers, affine)
            continue
        for name, state in before.items():
            net.get_submodule(name).load_state_dict(state)
    return found


def _rewrite(
    norm: Any, linears: Sequence[Any], outputs: Tensor, bits: int, settings: PostTraining
) -> tuple[Affine, Tensor]:
    """Change the norm and its readers in place; the scale of its outputs, and what becomes of them.

    Without a bias everywhere nothing can be shifted: symmetric then.
    """
    shifting = all(getattr(m, "bias", None) is not None for m in (norm, *linears))
    channels = fit(settings.activations, outputs, bits, symmetric=not shifting, signed=False, axis=1)
    beta, gamma = (norm.bias.clone(), norm.weight.clone()) if shifting else (None, norm.weight.clone())
    changed = reparameterize(gamma, beta, [(m.weight, m.bias) for m in linears], channels)
    norm.weight.copy_(changed.gamma)
    if shifting:
        norm.bias.copy_(changed.beta)
    for module, (weight, bias) in zip(linears, changed.linears, strict=True):
        module.weight.copy_(weight)
        if shifting:
            module.bias.copy_(bias)
    ratio = channels.scale / changed.affine.scale
    return changed.affine, (outputs + channels.scale * (channels.zero - changed.affine.zero)) / ratio


def _error(
    linears: Sequence[Any], schemes: Sequence[Scheme], x: Tensor, activation: Affine, settings: PostTraining
) -> float:
    """Squared error of the readers' outputs, quantized to the nearest codes."""
    rounded, total = activation(x), 0.0
    for module, scheme in zip(linears, schemes, strict=True):
        weight = module.weight.half().float()
        if scheme.weights < 16:
            weight = _weight_affine(module.weight, scheme, settings)(module.weight)
        total += float((x @ module.weight.T - rounded @ weight.T).square().sum())
    return total


def _same(outputs: Tensor, expected: Tensor) -> bool:
    return bool((outputs - expected).abs().max() <= EQUAL * expected.abs().max())
