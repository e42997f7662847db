"""Which way of quantizing suits a layer (Q-HyViT, Lee et al. 2024): by the error that its output feels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ...errors import UserError
from .observers import fit
from .quantizers import Affine


@dataclass(frozen=True)
class Scheme:
    """A way to quantize a tensor: one scale or one for each entry of `axis` (or group), symmetric or not."""

    bits: int
    symmetric: bool
    axis: int | None = None
    group: int | None = None
    signed: bool = True
    observer: str = "mse"

    def fit(self, x: Tensor) -> Affine:
        """The quantizer of `x`. Its zero does not overflow its integers, not even for data that are all far from 0."""
        return fit(
            self.observer, x, self.bits, symmetric=self.symmetric, signed=self.signed, axis=self.axis, group=self.group
        )


def schemes(bits: int, axis: int, *, signed: bool = True, observer: str = "mse") -> list[Scheme]:
    """Q-HyViT's four candidates, the cheapest to run first: granularity times symmetry."""
    return [
        Scheme(bits, symmetric, granularity, signed=signed, observer=observer)
        for granularity in (None, axis)
        for symmetric in (True, False)
    ]


def weighted_error(x: Tensor, quantize: Callable[[Tensor], Tensor], importance: Tensor | None = None) -> float:
    """Mean of importance * (quantized - x)^2. `importance` broadcasts against `x`; None: 1 everywhere."""
    error = (quantize(x) - x).square()
    return float((error if importance is None else error * importance).mean())


def choose_scheme(x: Tensor, importance: Tensor | None, candidates: Sequence[Scheme], *, slack: float = 0.0) -> Scheme:
    """The candidate of least weighted error on `x`, a weight or samples of an activation.

    importance: the diagonal of the loss's Hessian at `x`: squared gradients at an activation, the inputs' mean squares
        at a weight (out, in). None: all count the same.
    slack: take the first candidate whose error is at most (1 + slack) times the least; candidates go from cheap to
        dear.
    Error: no candidate.
    """
    if not candidates:
        raise UserError("there is no way to quantize to choose from; name at least one")
    errors = {scheme: weighted_error(x, scheme.fit(x), importance) for scheme in candidates}
    limit = (1 + slack) * min(errors.values())
    return next(scheme for scheme, error in errors.items() if error <= limit)
