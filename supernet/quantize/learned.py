"""Rounding whose steps are learned together with the weights (LSQ, Esser et al. 2020).

Steps lie in one flat dict, a small vector for each way to round a part: the log of its step, which is learned, and of
inputs the code of 0, which stays. Weights have the log of a factor instead, on scales that their own rows give: so it
serves every subnet. What is rounded to 8 bits and more loses next to nothing when that is done to trained floats:
it has no steps.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ...search_space.inputs import Inputs
from ...search_space.quantization import Scheme, policy_of
from .quantized import Part, Quantizer
from .quantizers import SMALLEST_SCALE, Affine, Dynamic, LogSqrt2
from .settings import PostTraining, fit_steps, fit_weight
from .softmax import Rounding, fit_softmax, let_softmax, round_softmax, sites
from .traffic import observe

Steps = Mapping[str, Tensor] | nn.ParameterDict
FEW = 8
"""Of fewer bits than this the quantization step is learned."""
PACE = 10
"""A step is exp(PACE * what is learned): Adam then moves it by 10 times the learning rate, relative to itself."""
START = PostTraining(weights="lsq")
"""The ranges that steps start from."""


def is_few(scheme: Scheme) -> bool:
    """Whether something of a part with this scheme has learned steps."""
    return min(scheme.weights, scheme.activations) < FEW


# Names: no dots, which parameters cannot have


def weight_key(name: str, scheme: Scheme) -> str:
    return f"{name}/{scheme.halves[0]}".replace(".", "/")


def input_key(name: str, scheme: Scheme) -> str:
    return f"{name}/{scheme.halves[1]}".replace(".", "/")


def softmax_key(name: str, bits: int) -> str:
    return f"{name}/softmax{bits}".replace(".", "/")


def keys_of(net: nn.Module, steps: Steps) -> set[str]:
    """Of these steps those that a net with a policy rounds by."""
    policy, softmax = policy_of(net).items(), sites(net).items()
    parts = (key(name, scheme) for name, scheme in policy for key in (weight_key, input_key))
    return {*parts, *(softmax_key(name, bits) for name, bits in softmax)} & steps.keys()


def first_steps(net: nn.Module, inputs: Inputs, schemes: Collection[Scheme], learned: Steps) -> dict[str, Tensor]:
    """What steps start from, as far as they are not known: ranges of a net of floats on calibration data.

    net: with a policy, any of these schemes, whose activations are few so that softmax outputs are seen.
    """
    policy, result = policy_of(net), dict[str, Tensor]()
    traffic = observe(net, inputs, policy)
    for name, scheme in product(policy, schemes):
        weight, given = weight_key(name, scheme), input_key(name, scheme)
        if scheme.weights < FEW and weight not in learned:
            result[weight] = torch.zeros(1)
        if scheme.activations < FEW and name in traffic.inputs and given not in learned and given not in result:
            affine = fit_steps(traffic.inputs[name], scheme, START)
            result[given] = torch.stack([affine.scale.log() / PACE, affine.zero.float()])
    for name, bits in product(traffic.softmax, {s.activations for s in schemes if s.activations < FEW}):
        if (key := softmax_key(name, bits)) not in learned:
            result[key] = _kept(fit_softmax("best", traffic.softmax[name], bits))
    return result


def _kept(softmax: Rounding) -> Tensor:
    if isinstance(softmax, LogSqrt2):
        return softmax.delta.log().reshape(1) / PACE
    return torch.stack([softmax.scale.log() / PACE, softmax.zero.float()])


# What steps say


def weight_affine(weight: Tensor, scheme: Scheme, step: Tensor) -> Affine:
    result = fit_weight(weight.detach(), scheme, START)
    scale = (result.scale * _size(step)).half().float()  # as files hold it
    return replace(result, scale=scale.clamp(min=SMALLEST_SCALE))  # type: ignore[return-value]  # no float8


def input_affine(step: Tensor, scheme: Scheme) -> Affine:
    return Affine(scheme.activations, _size(step), step.detach()[1].to(torch.int32), scheme.signed)


def softmax_rounding(step: Tensor, bits: int) -> Rounding:
    if len(step) == 1:
        return LogSqrt2(bits, _size(step))
    return Affine(bits, _size(step), step.detach()[1].to(torch.int32), signed=False)


def _size(step: Tensor) -> Tensor:
    return (PACE * step.detach()[0]).exp()


def learned_part(name: str, module: Any, scheme: Scheme, steps: Steps) -> Part:
    """A part with what steps say of it."""
    of_weight, of_input = weight_key(name, scheme), input_key(name, scheme)
    return Part(
        scheme,
        weight=weight_affine(module.weight, scheme, steps[of_weight]) if of_weight in steps else None,
        activation=input_affine(steps[of_input], scheme) if of_input in steps else None,
    )


# Training


@contextmanager
def fake_quantized(subnet: nn.Module, steps: Steps) -> Iterator[None]:
    """A subnet of floats (with its values in place) rounds as it will be evaluated; afterwards it is as it was."""
    with ExitStack() as stack:
        for name, scheme in policy_of(subnet).items():
            part: Any = subnet.get_submodule(name)
            weight: Tensor = part.weight
            plan, own = learned_part(name, part, scheme, steps), part._parameters
            if plan.weight is not None:
                stack.callback(own.__setitem__, "weight", weight)
                own["weight"] = _round(steps[weight_key(name, scheme)], plan.weight, weight, weight.numel())
            if plan.activation is not None and not isinstance(plan.activation, Dynamic):
                hook = partial(_round_input, steps[input_key(name, scheme)], plan.activation)
                stack.callback(part.register_forward_pre_hook(hook).remove)
        for name, bits in sites(subnet).items():
            if (key := softmax_key(name, bits)) in steps:
                module, rounded = subnet.get_submodule(name), softmax_rounding(steps[key], bits)
                stack.callback(let_softmax, module)
                round_softmax(module, partial(_round, steps[key], rounded))
        yield


def _round_input(step: Tensor, quantizer: Quantizer, part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    del part
    return (_round(step, quantizer, inputs[0]), *inputs[1:])


def _round(step: Tensor, quantizer: Any, x: Tensor, size: int | None = None) -> Tensor:
    rounded: Tensor = Learned.apply(x, step, quantizer, size or x[0].numel())  # type: ignore[no-untyped-call]
    return rounded


class Learned(torch.autograd.Function):
    """`quantizer(x)` to the bit, with gradients to `x` and to `step`, whose first number is PACE-th of its log step.

    That of x is 1 where nothing was clipped and 0 elsewhere (Bengio et al. 2013). That of the log step is
    Q(x) - x where nothing was clipped and Q(x) elsewhere, times 1 / sqrt(size * the largest code): equation 3 of
    Esser et al. times the step, as it is of the step's log. size: numbers in x, of inputs in one sample.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, quantizer: Rounding, size: int) -> Tensor:
        result, inside = quantizer(x), quantizer.inside(x)
        ctx.save_for_backward(inside, result - torch.where(inside, x, 0.0))
        most = quantizer.high if isinstance(quantizer, Affine) else quantizer.zero_code
        ctx.gain, ctx.shape = PACE * (size * most) ** -0.5, step.shape
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inside, slope = ctx.saved_tensors
        result = torch.zeros(ctx.shape, device=slope.device)
        result[0] = ctx.gain * (gradient * slope).sum(dtype=torch.float32)
        return torch.where(inside, gradient, 0.0), result, None, None
