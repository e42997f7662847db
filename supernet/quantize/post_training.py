"""Post-training quantization: from a float net with a policy and some inputs to codes and scales, in milliseconds."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.inputs import Inputs, tensors_in
from ...search_space.quantization import Scheme, policy_of
from .blockwise import Blocks, choose, feel
from .floats import Float8
from .learned import Steps, learned_part, softmax_key, softmax_rounding
from .norms import fold_norms
from .quantized import Part, Quantized, apply
from .quantizers import Affine
from .ranges import check_finite
from .rounding import gptq, hessian, nearest
from .settings import CLIPPED, PostTraining, fit_input, fit_weight
from .softmax import Rounding, fit_softmax, sites
from .traffic import Traffic, observe

SAMPLES = 32
"""Inputs to calibrate on, as in RepQ-ViT."""
RANGES = ("mse", "min_max")
"""More observers of activations to choose from, beside the one that is set."""
SLACK = 0.05
"""What is cheaper may err by so much more than the best."""


@torch.no_grad()
def quantize(
    module: nn.Module, inputs: Inputs, settings: PostTraining | None = None, steps: Steps | None = None
) -> Quantized:
    """The net with the policy that its parts carry (`space.quantized`); `module` itself stays as it is.

    inputs: samples as the net takes them: a tensor (samples, ...) is the one argument, a sequence all arguments, a
        mapping all keywords. steps: learned ones (`quantize.learned`); parts that have some are
    rounded by them as they were trained: to the nearest, norms before them as they are.
    Errors: inputs or weights that are not finite; inputs that the net does not take; weights, inputs or outputs of a
    part in fp16 beyond 65,504.

    >>> quantized = space.quantized(schemes=["w8a8", "w4a16"])
    >>> net = supernet.serving(quantized).extract(quantized.largest)
    >>> result = nas.quantize(net, task.train.inputs[:32])
    """
    settings, steps = settings or PostTraining(), steps or {}
    tensors = tensors_in(inputs)
    if not tensors or any(x.numel() == 0 or not x.isfinite().all() for x in tensors):
        raise UserError("the calibration data are empty or not finite; pass inputs of the training split")
    net = deepcopy(module).eval()
    check_finite(net)
    policy = policy_of(net)
    if not policy:
        return Quantized(net)
    try:
        traffic = observe(net, inputs, policy)
    except (RuntimeError, TypeError) as error:
        shapes = " and ".join(str(tuple(x.shape)) for x in tensors)
        raise UserError(f"the net does not take calibration data of shape {shapes}: {error}") from error
    learned = _learned(net, policy, steps)
    traffic.readers = {n: r for n, r in traffic.readers.items() if not learned.keys() & set(r)}
    blocks = feel(net, inputs, list(policy)) if settings.choose else None
    shared = fold_norms(net, inputs, traffic, settings, blocks) if settings.reparameterized else {}
    if shared:
        del traffic  # rows of every part: one such set at a time
        traffic, blocks = observe(net, inputs, policy), feel(net, inputs, list(policy)) if settings.choose else None
    parts = {
        n: _part(net.get_submodule(n), learned.get(n, Part(s)), traffic.inputs.get(n), settings)
        for n, s in policy.items()
    }
    for name, activation in shared.items():
        parts[name] = replace(parts[name], activation=activation, folded=True)
    if blocks is not None:
        parts |= {n: _chosen(blocks, n, parts[n], traffic.inputs[n], settings) for n in blocks.felt.keys() - learned}
    return apply(net, _tied(net, parts, traffic), _softmax(net, traffic, settings, steps))


def _tied(net: nn.Module, parts: Mapping[str, Part], traffic: Traffic) -> dict[str, Part]:
    """Parts that share a weight share its codes: those of the part that reads floats, which fit its inputs."""
    owners: dict[int, Part] = {}
    for name in sorted(parts, key=lambda name: name not in traffic.inputs):
        owners.setdefault(id(net.get_submodule(name).weight), parts[name])
    pairs = [(name, part, owners[id(net.get_submodule(name).weight)]) for name, part in parts.items()]
    return {name: part if part is owner else _like(part, owner) for name, part, owner in pairs}


def _like(part: Part, owner: Part) -> Part:
    scheme = replace(part.scheme, group=owner.scheme.group, whole=owner.scheme.whole, zeros=owner.scheme.zeros)
    return replace(part, scheme=scheme, weight=owner.weight, codes=owner.codes)


def _learned(net: nn.Module, policy: Mapping[str, Scheme], steps: Steps) -> dict[str, Part]:
    results = {n: learned_part(n, net.get_submodule(n), s, steps) for n, s in policy.items()}
    return {n: part for n, part in results.items() if part.weight or part.activation}


def _softmax(net: nn.Module, traffic: Traffic, settings: PostTraining, steps: Steps) -> dict[str, Rounding]:
    if settings.softmax == "none":
        return {}
    keys = {name: (softmax_key(name, bits), bits) for name, bits in sites(net).items()}
    return {
        name: softmax_rounding(steps[key], bits) if key in steps else fit_softmax(settings.softmax, outputs, bits)
        for name, outputs in traffic.softmax.items()
        for key, bits in [keys[name]]
    }


def _part(module: Any, part: Part, inputs: Tensor | None, settings: PostTraining) -> Part:
    """`part` with what it has not yet. inputs: (rows, channels), what comes in on the calibration data; None: indices,
    or it is not called."""
    if part.activation is None and inputs is not None and part.scheme.activations < 16:
        part = replace(part, activation=fit_input(inputs, part.scheme, settings))
    if isinstance(part.weight, Affine):
        return replace(part, codes=_codes(module.weight, part.weight))
    return part if part.scheme.weights == 16 else _with_weight(part, module, inputs, settings)


def _codes(weight: Tensor, affine: Affine) -> Tensor:
    return nearest(weight.flatten(1), affine).view(weight.shape).to(torch.int8)


def _with_weight(part: Part, module: Any, inputs: Tensor | None, settings: PostTraining) -> Part:
    """The part with codes of the module's weight, as its scheme says."""
    weight = module.weight.detach()
    result, flat = fit_weight(weight, part.scheme, settings), weight.flatten(1)
    if isinstance(result, Float8):
        return replace(part, weight=result, codes=result.codes(weight))
    fits = inputs is not None and inputs.shape[1] == weight.shape[1] == flat.shape[1]  # one input a weight
    if inputs is None or not fits or part.scheme.weights > settings.compensated:
        return replace(part, weight=result, codes=_codes(weight, result))
    codes = gptq(flat, hessian(inputs), result)
    return replace(part, weight=result, codes=codes.view(weight.shape).to(torch.int8))


# The choice for each part


def _chosen(blocks: Blocks, name: str, part: Part, inputs: Tensor, settings: PostTraining) -> Part:
    """The part with what suits it best: first its activations, then its weights beside these. Its scheme says so."""
    if part.scheme.format is not None or part.scheme.dynamic:
        return part
    module, error = blocks.net.get_submodule(name), partial(blocks.error, name)
    if part.activation is not None and not part.folded:
        part = choose(_inputs(part, inputs, settings), part, error, SLACK)
    if part.weight is not None:
        group = part.scheme.group
        ways = [
            replace(part.scheme, whole=whole, group=None if whole else group, zeros=zeros)
            for whole in (True, False)
            for zeros in (False, True)
        ]
        options = [_with_weight(replace(part, scheme=way), module, inputs, settings) for way in ways]
        part = choose(options, part, error, SLACK)
    return part


def _inputs(part: Part, inputs: Tensor, settings: PostTraining) -> list[Part]:
    few = part.scheme.activations < CLIPPED
    observers = dict.fromkeys((settings.activations, *RANGES)) if few else (settings.activations,)
    ways = [(replace(part.scheme, signed=signed), range_) for signed in (True, False) for range_ in observers]
    return [
        replace(part, scheme=scheme, activation=fit_input(inputs, scheme, replace(settings, activations=range_)))
        for scheme, range_ in ways
    ]
