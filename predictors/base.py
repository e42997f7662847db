"""Predictor: architectures to a number with its uncertainty. Settings, fit, predict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..search_space.architecture import GeneValue
from .method import Method, Regressor, Scale
from .methods import load_method
from .table import Array, Features, Table

FEWEST = 3
"""Points to fit anything to."""

Nets = Table | Iterable[Mapping[str, GeneValue]]
"""Architectures, or the table that `Features.table` made of them."""


@dataclass(frozen=True)
class Predictor:
    """What to regress with, on what, at which scale (see `method.Scale`)."""

    features: Features
    method: str | Method = "ridge"
    scale: Scale = "linear"

    def fit(self, nets: Nets, y: Sequence[float] | Array) -> "FittedPredictor":
        """Fitted to the values `y` of the architectures.

        Errors: too few, lengths that differ, values that are not finite (or not positive, where the scale is log), a
        method that is not made for the scale.
        """
        method, table = load_method(self.method), _table(self.features, nets)
        values = checked(y, len(table), self.scale)
        if self.scale not in method.scales:
            raise UserError(f"predictor {method.name!r} needs scale={'/'.join(sorted(method.scales))}")
        regressor = method.fit(table, np.log(values) if self.scale == "log" else values)
        return FittedPredictor(replace(self, method=method), table, values, regressor)


@dataclass(frozen=True)
class FittedPredictor:
    """A predictor and what it was fitted to.

    std_factor: multiplies the standard deviation, so that it is that of nets left out (`choose` finds it).
    """

    predictor: Predictor
    table: Table
    y: Array
    regressor: Regressor
    std_factor: float = 1.0

    def predict(self, nets: Nets) -> tuple[Array, Array]:
        """Mean and standard deviation of each architecture, in the unit of y. At scale log the mean is the median."""
        mean, std = self.predict_target(nets)
        return (np.exp(mean), np.exp(mean) * std) if self.predictor.scale == "log" else (mean, std)

    def predict_target(self, nets: Nets) -> tuple[Array, Array]:
        """As `predict`, of what was regressed: the logarithm of y where the scale is log."""
        table = _table(self.predictor.features, nets)
        if not len(table):
            return np.empty(0), np.empty(0)
        if (table.gene_names, table.extra_names) != (self.table.gene_names, self.table.extra_names):
            raise UserError(_other_columns(self.table, table))
        mean, std = self.regressor.predict(table)
        return mean, std * self.std_factor


def checked(y: Sequence[float] | Array, n: int, scale: Scale) -> Array:
    """The values as an array. Errors: as `Predictor.fit`."""
    values = np.asarray(y, dtype=np.float64)
    if values.shape != (n,):
        raise UserError(f"each architecture needs one value: {n} architectures, values of shape {values.shape}")
    if n < FEWEST:
        raise UserError(f"a predictor needs {FEWEST} architectures at least, not {n}")
    wrong = ~np.isfinite(values) | ((values <= 0) if scale == "log" else False)
    if wrong.any():
        right = "positive and finite" if scale == "log" else "finite"
        raise UserError(f"values must be {right}; number {int(wrong.argmax())} is {values[wrong.argmax()]}")
    return values


def _table(features: Features, nets: Nets) -> Table:
    return nets if isinstance(nets, Table) else features.table(nets)


def _other_columns(fitted: Table, given: Table) -> str:
    before, after = ({*t.gene_names, *t.extra_names} for t in (fitted, given))
    names = ", ".join(sorted(before ^ after)[:5]) or "their order"
    return f"these architectures have other columns than those that the predictor was fitted to (differ: {names})"
