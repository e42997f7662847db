"""A fit that starts from a device which was profiled before, not from the datasheet alone.

Two devices with one runtime treat operators alike, more so than two runtimes on one device. The start takes over what
the older profile learnt, its residuals of operators and nets and how kinds of operators compare; the overall rates are
scaled by the ratio of the two datasheets and fitted anew (`scripts/bench_transfer.py` measures what that is worth).
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .priors import Prior, Rates
from .residual import Residual
from .roofline import Table

SPREAD, KIND_SPREAD = (0.7, 0.7, 0.7), (0.1, 0.1, 0.1)
"""Log standard deviations about the start: of the overall rates, and of how kinds of operators compare."""
BETTER = 0.9
"""A start is taken where it brings the error of nets left out below this share of that from the datasheet."""


class Fitted(Protocol):
    """Of a latency model."""

    @property
    def rates(self) -> Rates: ...
    @property
    def residual(self) -> Residual | None: ...
    @property
    def source(self) -> str: ...


class Profiled(Protocol):
    """What a start wants to know of the device that was profiled."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> Fitted | None: ...
    def prior(self) -> Prior: ...


@dataclass(frozen=True)
class Start:
    """name: of the older device. centre: the rates expected of the new one. rates, residual: those of the older one."""

    name: str
    centre: Rates
    rates: Rates
    residual: Residual | None

    def prior(self, datasheet: Prior) -> Prior:
        return replace(datasheet, rates=self.centre, spread=SPREAD, kind_spread=KIND_SPREAD)

    def offset(self, table: Table) -> NDArray[np.float64]:
        """What the older profile says of each net beyond its rates: a log residual."""
        if self.residual is None:
            return np.zeros(len(table.starts))
        return self.residual.predict(table, self.rates)


def start_of(near: Profiled, datasheet: Prior) -> Start | None:
    """A start from `near` for the device that `datasheet` is of; None: nothing is fitted there."""
    model = near.model
    if model is None or model.source == "analytic":
        return None
    ratio = datasheet.rates.log()[:3] - near.prior().rates.log()[:3]
    rates = model.rates.log()
    rates[:3] += ratio
    return Start(near.name, Rates.exp(rates), model.rates, model.residual)
