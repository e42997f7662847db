"""Ranges from calibration data. Every observer works over the last dimension, for all channels at once.

`fit` makes a quantizer with one: of a whole tensor, of each channel along an axis, or of groups of a weight's columns.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import NotFinite, UserError, unknown
from .clipping import Range, dual_clip, mse
from .quantizers import Affine, affine_of

Observer = Callable[[Tensor, int, bool], Range]
"""(values (..., n), bits, symmetric) to (low, high), both (...)."""


def min_max(values: Tensor, _bits: int, _symmetric: bool) -> Range:
    """All of the data."""
    return values.amin(-1), values.amax(-1)


def percentile(p: float) -> Observer:
    """The observer that leaves out a share of 1 - `p` at either end."""

    def of(values: Tensor, _bits: int, _symmetric: bool) -> Range:
        n = values.shape[-1]
        left_out = min(round((1 - p) * n), (n - 1) // 2)
        low = values.kthvalue(left_out + 1, dim=-1).values
        return low, values.kthvalue(n - left_out, dim=-1).values

    return of


def lsq(values: Tensor, bits: int, _symmetric: bool) -> Range:
    """Twice the mean size times sqrt(2^(bits - 1) - 1) to both sides, as far as the data reach (Esser et al. 2020)."""
    reach = 2 * (2 ** (bits - 1) - 1) ** 0.5 * values.abs().mean(-1)
    return values.amin(-1).maximum(-reach), values.amax(-1).minimum(reach)


def _checked(observer: Observer) -> Observer:
    """The observer, with its data looked at first."""

    def of(values: Tensor, bits: int, symmetric: bool) -> Range:
        if values.numel() == 0:
            raise UserError("there is no calibration data; at least one sample is needed")
        if not values.isfinite().all():
            raise NotFinite("the calibration data hold NaN or infinity; calibrate on finite numbers")
        return observer(values, bits, symmetric)

    return of


OBSERVERS: dict[str, Observer] = {
    "min_max": _checked(min_max),
    "mse": _checked(mse),
    "dual_clip": _checked(dual_clip),
    "lsq": _checked(lsq),
    **{f"percentile_{p}": _checked(percentile(p)) for p in (0.999, 0.9999, 0.99999)},  # RepQ-ViT's
}


def observer(name: str) -> Observer:
    """The observer of that name. Error: the valid names, the nearest first."""
    if name not in OBSERVERS:
        raise unknown("observer", name, OBSERVERS)
    return OBSERVERS[name]


def fit(
    name: str,
    x: Tensor,
    bits: int,
    *,
    symmetric: bool,
    signed: bool = True,
    axis: int | None = None,
    group: int | None = None,
) -> Affine:
    """The quantizer of calibration data or a weight `x`, its range by the observer `name`. For the rest see Affine."""
    observe = observer(name)
    bounds = [observe(rows, bits, symmetric) for rows in _rows(x, axis, group)]
    low, high = (torch.cat(ends, dim=-1) if len(ends) > 1 else ends[0] for ends in zip(*bounds, strict=True))
    return affine_of(low, high, bits, symmetric=symmetric, signed=signed, axis=axis, group=group)


def _rows(x: Tensor, axis: int | None, group: int | None) -> list[Tensor]:
    """`x` with what shares a scale in the last dimension; the smaller last group on its own."""
    if group is not None:
        whole = x.shape[-1] // group * group
        parts = [x[:, :whole].reshape(len(x), -1, group)] if whole else []
        return parts + ([x[:, None, whole:]] if whole < x.shape[-1] else [])
    return [x.flatten() if axis is None else x.movedim(axis, 0).flatten(1)]
