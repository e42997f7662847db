"""From a cost to milliseconds and back: the latency model, its fit and its interval.

Without measurements the model is the datasheet's (`priors`); with few, a roofline near that prior; with many, the grey
box: the roofline times what a regressor learnt of its residual. See `roofline` and `residual`.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError, unknown
from ...values import LATENCY, Estimate
from ..cost import Cost
from .intervals import interval_ends
from .priors import ANY_DEVICE, Prior, Rates
from .rank import rank_of
from .residual import FEWEST, Residual, fit_residual
from .roofline import RooflineForm, Table, fit_rates, seconds, tabulate
from .transfer import BETTER as BETTER_START
from .transfer import Profiled, Start, start_of

if TYPE_CHECKING:
    import pandas as pd

Source = Literal["measured", "calibrated", "analytic"]
Tier = Literal["A", "B", "C", "D"]
"""A: fitted to 100 nets or more measured on this very device, B: to 5-99, C: to published points, D: datasheet only."""
Form = Literal["roofline", "rates", "grey-box"]
Array = NDArray[np.float64]

PER_DECADE = log(1.5)
"""Half-width (log) that is added for each factor 10 in FLOPs beyond the range of the calibration."""
FOLDS = 10
NEEDS: Mapping[Form, int] = {"rates": 0, "roofline": 12, "grey-box": FEWEST}
"""Nets from which a form is tried."""
BETTER = 0.9
"""Another form is taken where it brings the error of nets left out below this share of that of `rates`."""


class Target(Protocol):
    """What a fit wants to know of a device."""

    @property
    def precision(self) -> str: ...
    def prior(self) -> Prior: ...


@dataclass(frozen=True)
class LatencyModel:
    """Rates, the factors of the 90 % interval about the mean, and where both hold.

    The unit is that of what it was fitted to: milliseconds, or millijoules for a model of energy.

    >>> costs = [cost(space.sample(seed)) for seed in range(8)]
    >>> model = nas.LatencyModel.fit(costs, [0.1 + 1e-5 * c.params for c in costs], device)
    >>> model.predict(costs).columns.tolist()
    ['mean_ms', 'low_ms', 'high_ms']
    """

    rates: Rates
    low_factor: float
    high_factor: float
    source: Source
    tier: Tier
    precision: str
    widest: float
    """Beyond the calibration's range the interval grows to this factor, that of the datasheet alone, and no further."""
    flops_range: tuple[float, float] | None = None
    """Range of FLOPs of the nets that it was fitted to; None: not fitted."""
    form: Form = "rates"
    residual: Residual | None = None
    error: float | None = None
    """Mean absolute relative error of nets left out; None: not fitted."""
    rank: float | None = None
    """Kendall tau of nets left out, over pairs that measurements tell apart (`rank_of`)."""
    start: Start | None = None
    """The device that was profiled before from which the fit started; None: the datasheet."""
    pace: float = 1.0
    """Factor on all that it says: how much longer nets take at present than when it was fitted."""

    @classmethod
    def fit(
        cls,
        costs: Sequence[Cost],
        latencies_ms: Sequence[float],
        device: Target | None = None,
        groups: Sequence[Hashable] | None = None,
        form: Form | Literal["auto"] = "auto",
        *,
        like: Profiled | None = None,
        tier: Tier = "B",
        noise: float = 0.0,
    ) -> "LatencyModel":
        """A model fitted to the latencies of n nets; with none, the model of the datasheet.

        costs: of n nets, as the runtime runs them (`device.as_run(cost)`), or as traced if `predict` gets them so, too.
        latencies_ms: n numbers above zero.
        device: gives prior and precision; None: a wide prior and the precision of the first cost.
        groups: n labels (families of nets): error and interval are then those of groups left out.
        form: `auto` starts from `rates` and takes another where it is clearly better on nets left out.
        like: a profiled device to start from, where that is clearly better than the datasheet (`transfer`).
        noise: repeat noise, a share.
        Errors: lengths that differ; latencies that are not positive.
        """
        _check(costs, latencies_ms, groups, form)
        prior = ANY_DEVICE if device is None else device.prior()
        precision = device.precision if device is not None else costs[0].precision if costs else "fp32"
        if not costs:
            return analytic(prior, precision)
        settings: Any = {"tier": tier, "precision": precision, "groups": groups, "form": form, "noise": noise}
        own = fit(costs, latencies_ms, prior, **settings)
        start = start_of(like, prior) if like is not None else None
        if start is None:
            return own
        near = fit(costs, latencies_ms, prior, **settings, start=start)
        return near if (near.error or 0.0) < BETTER_START * (own.error or 0.0) else own

    def predict(self, costs: Sequence[Cost]) -> "pd.DataFrame":
        """One row for each cost: `mean_ms`, `low_ms`, `high_ms` (the 90 % interval)."""
        import pandas as pd

        results = [predict(self, cost) for cost in costs]
        return pd.DataFrame([(x.value, x.low, x.high) for x in results], columns=["mean_ms", "low_ms", "high_ms"])


def _check(costs: Sequence[Cost], latencies_ms: Sequence[float], groups: Sequence[Hashable] | None, form: str) -> None:
    if len(costs) != len(latencies_ms) or (groups is not None and len(groups) != len(costs)):
        raise UserError(
            f"each cost needs one latency (and one group, where there are any): {len(costs)} costs, "
            f"{len(latencies_ms)} latencies" + ("" if groups is None else f", {len(groups)} groups")
        )
    wrong = [ms for ms in latencies_ms if not (np.isfinite(ms) and ms > 0)]
    if wrong:
        raise UserError(f"latencies are positive numbers of milliseconds, not {wrong[0]}")
    if form not in ("auto", "roofline", "rates", "grey-box"):
        raise unknown("form of a latency model", form, ("auto", "roofline", "rates", "grey-box"))


def predict(model: LatencyModel, cost: Cost) -> Estimate:
    """Latency of a cost; one that was traced at another precision is rescaled to the model's."""
    table = tabulate([cost], model.precision)
    log_seconds = _log_seconds(model.rates, model.form, model.residual, table) + _offset(model.start, table)
    mean = model.pace * 1e3 * exp(float(log_seconds[0]))
    wider, tier = 0.0, model.tier
    if model.flops_range is not None:
        least, most = model.flops_range
        flops = max(cost.flops, 1.0)
        decades = max(0.0, log(max(1.0, least) / flops), log(flops / max(1.0, most))) / log(10)
        wider, tier = decades * PER_DECADE, below(tier) if decades else tier
    low, high = -log(model.low_factor), log(model.high_factor)
    low, high = (min(side + wider, max(log(model.widest), side)) for side in (low, high))
    return Estimate(LATENCY, mean, mean * exp(-low), mean * exp(high), model.source, tier)


def below(tier: Tier) -> Tier:
    """Outside its range a model is worth one tier less."""
    lower: Mapping[Tier, Tier] = {"A": "B", "B": "C", "C": "D", "D": "D"}
    return lower[tier]


def analytic(prior: Prior, precision: str) -> LatencyModel:
    """The model of a device of which only the datasheet is known."""
    return LatencyModel(prior.rates, 1 / prior.factor, prior.factor, "analytic", "D", precision, widest=prior.factor)


def fit(
    costs: Sequence[Cost],
    latencies_ms: Sequence[float],
    prior: Prior,
    *,
    tier: Tier,
    precision: str,
    groups: Sequence[Hashable] | None = None,
    form: Form | Literal["auto"] = "auto",
    noise: float = 0.0,
    start: Start | None = None,
) -> LatencyModel:
    """A model near `prior`, or `start`, fitted to latencies of known nets; its interval from nets left out."""
    table = tabulate(costs, precision)
    log_seconds = np.log(np.asarray(latencies_ms, dtype=np.float64) / 1e3)
    truth, prior = log_seconds - _offset(start, table), start.prior(prior) if start else prior
    fold = _folds(len(costs), groups)
    tried: list[Form] = [form] if form != "auto" else [f for f, nets in NEEDS.items() if len(costs) >= nets]
    fits = {f: _fit(table, truth, fold, prior, f) for f in tried}
    chosen = min(tried, key=lambda f: _error(fits[f][2]) * (BETTER if f == "rates" else 1.0))
    rates, residual, missed = fits[chosen]
    down, up = interval_ends(missed, noise) if len(costs) > 1 else 2 * (log(prior.factor),)
    flops = [cost.flops for cost in costs]
    return LatencyModel(
        rates,
        exp(-down),
        exp(up),
        "calibrated",
        tier,
        precision,
        widest=max(prior.factor, exp(down), exp(up)),
        flops_range=(min(flops), max(flops)),
        form=chosen,
        residual=residual,
        error=_error(missed),
        rank=rank_of(log_seconds, log_seconds - missed, noise),
        start=start,
    )


def _offset(start: Start | None, table: Table) -> Array:
    return start.offset(table) if start else np.zeros(len(table.starts))


def _error(missed: Array) -> float:
    """Mean absolute relative error of predictions, from log residuals (truth - prediction)."""
    return float(np.mean(np.abs(np.expm1(-missed)))) if len(missed) else float("nan")


def _folds(n: int, groups: Sequence[Hashable] | None) -> NDArray[np.intp]:
    """Which nets are left out together: groups, spread over folds by their size, or single nets where they are few."""
    labels: list[Hashable] = list(groups) if groups is not None and len(set(groups)) > 1 else list(range(n))
    sizes = {label: labels.count(label) for label in dict.fromkeys(labels)}
    most = min(len(sizes), FOLDS if n > 3 * FOLDS else n)
    loads = [0] * most
    place: dict[Hashable, int] = {}
    for label in sorted(sizes, key=lambda x: -sizes[x]):
        place[label] = int(np.argmin(loads))
        loads[place[label]] += sizes[label]
    return np.array([place[label] for label in labels], dtype=np.intp)


def _fit(
    table: Table, truth: Array, fold: NDArray[np.intp], prior: Prior, form: Form
) -> tuple[Rates, Residual | None, Array]:
    """(rates, residual model, log residual of each net predicted from the other folds)."""
    rates, residual = _both(table, truth, prior, form, None)
    return rates, residual, _missed(table, truth, fold, prior, (form, residual))


def missed(
    model: LatencyModel, costs: Sequence[Cost], latencies_ms: Sequence[float], prior: Prior, fold: NDArray[np.intp]
) -> Array:
    """Log of true over predicted latency of each net, from models of this one's form that lack its fold."""
    table = tabulate(costs, model.precision)
    truth = np.log(np.asarray(latencies_ms, dtype=np.float64) / 1e3) - _offset(model.start, table)
    prior = model.start.prior(prior) if model.start else prior
    return _missed(table, truth, fold, prior, (model.form, model.residual))


def _missed(
    table: Table, truth: Array, fold: NDArray[np.intp], prior: Prior, like: tuple[Form, Residual | None]
) -> Array:
    form, residual = like
    result = np.zeros(len(truth))
    for part in np.unique(fold) if len(truth) > 1 else ():
        kept, out = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        rates, learnt = _both(table.of(kept.tolist()), truth[kept], prior, form, residual)
        result[out] = truth[out] - _log_seconds(rates, form, learnt, table.of(out.tolist()))
    return result


def _both(table: Table, truth: Array, prior: Prior, form: Form, like: Residual | None) -> tuple[Rates, Residual | None]:
    rates = fit_rates(table, truth, prior, _roofline(form))
    if form != "grey-box":
        return rates, None
    return rates, fit_residual(table, rates, truth - np.log(seconds(table, rates, "rates")), like)


def _log_seconds(rates: Rates, form: Form, residual: Residual | None, table: Table) -> Array:
    result: Array = np.log(seconds(table, rates, _roofline(form)))
    return result if residual is None else result + residual.predict(table, rates)


def _roofline(form: Form) -> RooflineForm:
    return "roofline" if form == "roofline" else "rates"
