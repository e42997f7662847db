"""Latency of one device over one space: learned predictors beside the device's own latency model; the better is used.

The latency model sees operators and holds for any net. A predictor that sees the genes may know this space better,
where many nets of it were timed: cross-validation says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from ..errors import UserError
from ..hw_profiles import Cost, Device, LatencyModel
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from ..values import Estimate
from .choose import Choice, Indices, choose
from .methods import method_names
from .table import Array, Features, cost_columns

LATENCY_MODEL = "latency model"
FEWEST = 20
"""Nets of the space that were timed, below which predictors are not tried."""
BETTER = 0.9
"""A predictor is used where its error is below this share of the latency model's."""


@dataclass(frozen=True)
class Timed:
    """Nets of a space that were timed on a device, with their costs as the device runs them."""

    device: Device
    space: GeneSpace
    trace: Callable[[Architecture], Cost]
    nets: list[Architecture]
    latencies_ms: list[float]

    @classmethod
    def of(cls, device: Device, space: GeneSpace, trace: Callable[[Architecture], Cost]) -> "Timed":
        """The points of the device's calibration that are nets of the space."""
        results: dict[Architecture, float] = {}
        for point in device.calibration.fitted if device.calibration else []:
            try:
                results[space.architecture(point.architecture or {})] = point.period_ms
            except UserError:
                continue
        return cls(device, space, trace, list(results), list(results.values()))

    def compare(self) -> pd.DataFrame | None:
        """Errors at nets left out, best first (see `Choice.table`), of the latency model (`LATENCY_MODEL`), the
        predictors, and straight lines over parameters and FLOPs. None: too few nets."""
        if len(self.nets) < FEWEST:
            return None
        costs = [self.device.as_run(self.trace(net)) for net in self.nets]

        def model(fitted: Indices, out: Indices) -> Array:
            times = [self.latencies_ms[i] for i in fitted]
            fit = LatencyModel.fit([costs[i] for i in fitted], times, self.device)
            return fit.predict([costs[i] for i in out])["mean_ms"].to_numpy()

        lines = {"parameters": [c.params for c in costs], "FLOPs": [c.flops for c in costs]}
        return self._choose(method_names(), baselines=lines, rivals={LATENCY_MODEL: model}).table

    def winner(self, table: pd.DataFrame | None) -> "Learned | None":
        """The best predictor of a comparison, fitted to all nets; None: the latency model is as good."""
        if table is None:
            return None
        errors = table["mape"][[name for name in table.index if name in method_names()]]
        if errors.min() >= BETTER * table["mape"][LATENCY_MODEL]:
            return None
        name = str(errors.idxmin())
        return Learned(name, float(errors.min()), self._choose([name]))

    def _choose(self, methods: list[str], **others: object) -> Choice:
        features = Features(self.space, lambda net: cost_columns(self.device.as_run(self.trace(net))))
        return choose(features, self.nets, self.latencies_ms, scale="log", methods=methods, **others)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Learned:
    """A predictor that is better than the latency model; `error`: the mean of it at nets left out, a share."""

    name: str
    error: float
    choice: Choice

    def latency(self, architecture: Architecture, known: Estimate, pace: float = 1.0) -> Estimate:
        """known: what the latency model says, which knows source and tier. pace: see `LatencyModel`."""
        row = self.choice.predict([architecture]).iloc[0] * pace
        return replace(known, value=float(row["mean"]), low=float(row["low"]), high=float(row["high"]))
