"""One scale instead of one a channel, for nothing: RepQ-ViT (Li et al. 2023), RepQuant (Li et al. 2024).

The outputs of a norm differ in range from channel to channel, so that they want a scale for each; hardware wants one
for all. With channel scales s and zeros z, and one scale s~ and zero z~, let r = s / s~ and d = s (z - z~). Then
x' = (x + d) / r, which the norm's own gamma and beta give, has x'/s~ + z~ = x/s + z: the same codes. The layers that
read x get W' = W r (by input channel) and b' = b - W d, so that W'x' + b' = Wx + b. A convolution that pads x with
zeros would have to pad x' with d / r: it is no reader for which d may be other than 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...errors import UserError
from .quantizers import Affine

Linear = tuple[Tensor, Tensor | None]
"""(weight (out, channels) or, of convolutions, (out, channels / groups, taps...), bias (out,) or None)."""


@dataclass(frozen=True, eq=False)
class Reparameterized:
    """A norm and the layers that read it, for one scale.

    affine: the one scale and zero of the norm's outputs.
    gamma, beta: the norm's, (channels,). Where the norm had no beta (RMSNorm), `beta` is what has to be added to its
        output; it is zero when all channels have the same zero, as under symmetric quantization.
    linears: (weight, bias) of the layers that read the norm, in the order given.
    """

    affine: Affine
    gamma: Tensor
    beta: Tensor
    linears: tuple[tuple[Tensor, Tensor], ...]


def reparameterize(gamma: Tensor, beta: Tensor | None, linears: Sequence[Linear], affine: Affine) -> Reparameterized:
    """The norm and its readers so that the scale and zero for each channel (`affine`) become one for all.

    Without quantization no output changes. The one zero is the rounded mean: an integer, unlike in the authors' code,
    so that every code stays the same. All that reads the norm must be among `linears`. Their weights are quantized
    after this, and their ranges found anew. Error: an `affine` that is not for each channel.
    """
    if affine.axis is None or affine.scale.shape != gamma.shape:
        raise UserError(
            f"a norm of {len(gamma)} channels needs a scale for each, not scales of shape {tuple(affine.scale.shape)}"
        )
    scale = affine.scale.mean()
    zero = affine.zero.double().mean().round().to(affine.zero.dtype)
    ratio = affine.scale / scale
    shift = affine.scale * (affine.zero - zero)
    shifted = shift if beta is None else beta + shift
    return Reparameterized(
        Affine(affine.bits, scale, zero, affine.signed),
        gamma / ratio,
        shifted / ratio,
        tuple((w * _by_input(ratio, w), _less(b, (w * _by_input(shift, w)).flatten(1).sum(1))) for w, b in linears),
    )


def _by_input(values: Tensor, weight: Tensor) -> Tensor:
    """Values (channels,) so that they meet the weights that read these channels: a group of outputs reads its own."""
    inputs = weight.shape[1]
    rows = values.view(-1, inputs).repeat_interleave(len(weight) * inputs // len(values), 0)
    return rows.view(*rows.shape, *(1 for _ in weight.shape[2:]))


def _less(bias: Tensor | None, moved: Tensor) -> Tensor:
    return -moved if bias is None else bias - moved
