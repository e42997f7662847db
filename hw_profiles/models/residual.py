"""The grey box: what the roofline leaves unexplained, learnt from whole nets: a Gaussian process with two parts.

Operators. The roofline says which share of a net's time each of its operators has. An operator that really takes
(1 + d) times what the roofline says makes the net slower by share x d; so the log residual of a net is about the sum of
share x d over its operators, and the d are the values of a smooth function of an operator's name, FLOPs and bytes, seen
through the sums. It learns that depthwise convolutions of this width are fast here although no operator was ever timed
alone, and it carries over to nets made of the same operators.

Nets. What operators do to each other: a smooth function of how a net spends its time, and of how large it is.

Far from its data either part says nothing, and what is left is the roofline.
"""

from dataclasses import dataclass
from itertools import product
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from ..cost.operators import KINDS
from .priors import Rates
from .roofline import Table, parts

Array = NDArray[np.float64]
Signature = tuple[str, float, float, float, float]
"""An operator: its name, log2 of FLOPs and of bytes of one kernel, rounded, and its blocks (see `Table`)."""

FEWEST = 16
"""Nets below which a residual is noise."""
LARGEST = 0.6
"""Log residuals are cut here, so that one net which runs unlike all others does not bend the rest."""
ROUNDED = 4.0
"""Steps of a signature for each factor of two: much finer than the lengths below."""
LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""In factors of two of FLOPs and bytes: how far what was learnt of one operator speaks for another of its name."""
STEPS = (0.0, 1.0)
"""What a factor of two of a block counts beside one of FLOPs; nothing, where the data do not ask for it."""
SAME_NAME = 0.2
"""Share of the variance that all operators of a name have in common, however large they are."""
AMPLITUDES = (0.03, 0.06, 0.12, 0.25, 0.5, 0.8)
NOISES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15)


SPAN = 3.0
"""Length of the part of the nets, in standard deviations of its features."""
RATIOS = (0.0, 0.5, 1.0, 2.0)
"""Amplitude of the part of the nets over that of the operators'."""
EXPECTED = (1.0, 1.0, 0.5)
"""Length, step and ratio before anything is known."""


@dataclass(frozen=True)
class Residual:
    """Both parts as weighted sums of covariances: with `signatures`, and with the `inputs` of the known nets."""

    length: float
    step: float
    amplitude: float
    ratio: float
    noise: float
    signatures: tuple[Signature, ...]
    weights: tuple[float, ...]
    inputs: tuple[tuple[float, ...], ...]
    net_weights: tuple[float, ...]

    def predict(self, table: Table, rates: Rates) -> Array:
        """Log residual of each net."""
        known, shares = _shares(table, rates)
        inputs = np.array(self.inputs)
        operators = shares @ (_covariance(known, self.signatures, self.length, self.step) @ np.array(self.weights))
        result: Array = operators + _between(_features(table, rates), inputs, inputs) @ np.array(self.net_weights)
        return result


def fit_residual(table: Table, rates: Rates, residuals: Array, like: Residual | None = None) -> Residual:
    """The process fitted to log residuals; hyper-parameters of `like`, or those of the largest marginal likelihood."""
    known, shares = _shares(table, rates)
    inputs = _features(table, rates)
    nets = _between(inputs, inputs, inputs)
    targets = np.clip(residuals, -LARGEST, LARGEST)
    best: tuple[float, tuple[float, ...], Array] | None = None
    for length, step in product(LENGTHS, STEPS) if like is None else ((like.length, like.step),):
        operators = shares @ _covariance(known, known, length, step) @ shares.T
        for ratio in RATIOS if like is None else (like.ratio,):
            values, vectors = np.linalg.eigh(operators + ratio**2 * nets)
            rotated = vectors.T @ targets
            for amplitude in AMPLITUDES if like is None else (like.amplitude,):
                for noise in NOISES if like is None else (like.noise,):
                    spectrum = amplitude**2 * np.maximum(values, 0.0) + noise**2
                    likelihood = -0.5 * float(np.sum(rotated**2 / spectrum) + np.sum(np.log(spectrum)))
                    if best is None or likelihood > best[0]:
                        best = (likelihood, (length, step, amplitude, ratio, noise), vectors @ (rotated / spectrum))
    assert best is not None
    _, (length, step, amplitude, ratio, noise), dual = best
    weights, net_weights = amplitude**2 * (shares.T @ dual), (amplitude * ratio) ** 2 * dual
    rows = tuple(tuple(map(float, row)) for row in inputs)
    return Residual(
        length, step, amplitude, ratio, noise, known, tuple(map(float, weights)), rows, tuple(map(float, net_weights))
    )


def covariance(table: Table, rates: Rates) -> Array:
    """(nets, nets): how much the residuals of nets are expected to have in common, before any is known."""
    known, shares = _shares(table, rates)
    inputs, (length, step, ratio) = _features(table, rates), EXPECTED
    result: Array = shares @ _covariance(known, known, length, step) @ shares.T
    return result + ratio**2 * _between(inputs, inputs, inputs)


def _features(table: Table, rates: Rates) -> Array:
    """(nets, columns): root shares of time by kind; log FLOPs, bytes, FLOPs a kernel, kernels; intensity."""
    time = np.sum(parts(table, rates, "rates"), axis=0)
    whole = np.add.reduceat(time, table.starts)
    shares = [np.add.reduceat(np.where(table.kind == k, time, 0.0), table.starts) / whole for k in range(len(KINDS))]
    flops, moved, launches = (
        np.maximum(np.add.reduceat(v, table.starts), 1.0) for v in (table.flops, table.bytes, table.launches)
    )
    intensity = np.add.reduceat(time * np.log((table.flops + 1) / (table.bytes + 1)), table.starts) / whole
    return np.stack([*np.sqrt(shares), *map(np.log, (flops, moved, flops / launches, launches)), intensity], axis=1)


def _between(some: Array, others: Array, known: Array) -> Array:
    """Matern covariance (3/2) of nets by their features, in standard deviations of the known nets'."""
    scale = SPAN * np.maximum(known.std(axis=0), 1e-6)
    distance = sqrt(3) * np.sqrt(np.sum(((some[:, None] - others[None]) / scale) ** 2, axis=-1))
    result: Array = (1 + distance) * np.exp(-distance)
    return result


def _shares(table: Table, rates: Rates) -> tuple[tuple[Signature, ...], Array]:
    """(the operators that occur, (nets, operators): the share of each net's time that each has)."""
    time = np.sum(parts(table, rates, "rates"), axis=0)
    whole = np.add.reduceat(time, table.starts)
    nets = np.repeat(np.arange(len(table.starts)), np.diff([*table.starts, len(table.kind)]))
    logs = np.round(ROUNDED * np.log2(1 + np.stack([table.flops, table.bytes]) / table.launches)) / ROUNDED
    rows = list(zip(table.name.tolist(), *logs.tolist(), *table.blocks.T.tolist(), strict=True))
    known = tuple(sorted(set(rows)))
    place = {signature: i for i, signature in enumerate(known)}
    shares = np.zeros((len(table.starts), len(known)))
    np.add.at(shares, (nets, np.array([place[row] for row in rows])), time / whole[nets])
    return known, shares


def _covariance(some: tuple[Signature, ...], others: tuple[Signature, ...], length: float, step: float) -> Array:
    """Prior correlation of the slowdowns of operators: none between names, high between like sizes of a name."""
    names = [np.array([s[0] for s in group]) for group in (some, others)]
    sizes = [np.array([s[1:] for s in group]) * (1, 1, step, step) for group in (some, others)]
    distance = np.sum((sizes[0][:, None] - sizes[1][None]) ** 2, axis=-1)
    result: Array = SAME_NAME + (1 - SAME_NAME) * np.exp(-distance / (2 * length**2))
    return np.where(names[0][:, None] == names[1][None], result, 0.0)
