"""How scales and codes are chosen, and the ranges of inputs and weights by it."""

from dataclasses import dataclass, replace

from torch import Tensor

from ...errors import unknown
from ...search_space.quantization import Scheme
from .floats import Float8
from .observers import fit, observer
from .quantized import Quantizer, half
from .quantizers import Affine, Dynamic
from .softmax import HOW, How

CLIPPED = 6
"""Activations of fewer bits have ranges by the observer, others by all that was seen: other inputs go beyond anyway."""


@dataclass(frozen=True)
class PostTraining:
    """How scales and codes are chosen.

    activations, weights: observers (`observers.OBSERVERS`) of fewer than 6 and 8 bits; others have the whole range.
    compensated: weights of so many bits or fewer are rounded so that they make up for each other's errors (GPTQ);
        others to the nearest.
    reparameterized: the outputs of norms may have a scale for each channel, which costs nothing when the net runs
        (RepQ-ViT); they have it where the layers behind gain by it.
    per_channel: a scale for each row of a weight (or each group); else one for all of it.
    softmax: its outputs beside activations of fewer than 8 bits, as powers of sqrt(2) (RepQ-ViT), in even steps,
        whichever errs less, or as floats.
    choose: take for each part one scale or several, a zero in the middle or not, by the error that the loss feels
        (Q-HyViT); some seconds.

    >>> settings = nas.PostTraining(choose=True)  # granularity and symmetry of each part by its error
    """

    activations: str = "percentile_0.999"
    weights: str = "mse"
    compensated: int = 4
    reparameterized: bool = True
    per_channel: bool = True
    softmax: How = "best"
    choose: bool = False

    def __post_init__(self) -> None:
        observer(self.activations), observer(self.weights)
        if self.softmax not in HOW:
            raise unknown("way to round softmax outputs", self.softmax, HOW)


PLAIN = PostTraining("min_max", "min_max", 0, reparameterized=False, per_channel=False, softmax="uniform")
"""What everything better is measured against."""


def fit_input(rows: Tensor, scheme: Scheme, settings: PostTraining) -> Quantizer | Dynamic:
    """Of what comes in (rows, channels)."""
    if scheme.dynamic and scheme.group:
        return Dynamic(scheme.activations, scheme.group)
    return Float8.of(rows) if scheme.format == "fp8" else fit_steps(rows, scheme, settings)


def fit_steps(
    rows: Tensor, scheme: Scheme, settings: PostTraining, *, symmetric: bool = False, axis: int | None = None
) -> Affine:
    """The same in even steps; `axis`: a scale for each of its entries."""
    observed = settings.activations if scheme.activations < CLIPPED else "min_max"
    symmetric = symmetric or scheme.signed
    return fit(observed, rows, scheme.activations, symmetric=symmetric, signed=scheme.signed, axis=axis)


def fit_weight(weight: Tensor, scheme: Scheme, settings: PostTraining) -> Quantizer:
    """Of a weight (rows, ...), flattened to (rows, columns); only matrices have groups."""
    result = _of_weight(weight.flatten(1), scheme, settings, grouped=weight.dim() == 2)
    return replace(result, scale=result.scale.half().float())  # which files hold in two bytes


def _of_weight(flat: Tensor, scheme: Scheme, settings: PostTraining, grouped: bool) -> Quantizer:
    along: dict[str, int] = {}
    if settings.per_channel and not scheme.whole:
        along = {"group": scheme.group} if scheme.group is not None and grouped else {"axis": 0}
    if scheme.format == "fp8":
        return Float8.of(flat, rows=bool(along))
    observed = settings.weights if scheme.weights < 8 else "min_max"  # of 256 steps none is to be saved
    return fit(observed, flat, scheme.weights, symmetric=not scheme.zeros, signed=True, **along)


def rounded(weight: Tensor, scheme: Scheme, settings: PostTraining) -> Tensor:
    """The weight with the nearest codes, in its shape."""
    if scheme.weights == 16:
        return half(weight, scheme)
    return fit_weight(weight, scheme, settings)(weight.flatten(1)).view(weight.shape)
