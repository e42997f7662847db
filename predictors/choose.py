"""Which predictor for these points: cross-validation, beside parameter count, FLOPs and whatever else may know."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.model_selection import KFold

from ..errors import UserError, unknown
from .base import FittedPredictor, Nets, Predictor, checked
from .interval import Interval, conformal
from .method import Method, Scale
from .methods import load_method, method_names
from .table import Array, Features, Table

Indices = NDArray[np.intp]
Rival = Callable[[Indices, Indices], Array]
"""Fits to the points of the first indices and predicts (in the unit of y) those of the second: a grey box, say."""
Metric = Literal["mape", "median_ape", "rmse", "tau"]
COLUMNS = ("mape", "median_ape", "rmse", "tau", "seconds")
FOLDS = 5
FEW = 50
"""Points below which the folds are drawn three times."""


@dataclass(frozen=True)
class Choice:
    """name: the best of all, rivals and baselines included. fitted: the best of the methods, fitted to all points.

    table: one row for each, best first, of points left out: `mape` and `median_ape` (shares), `rmse` (unit of y), `tau`
    (Kendall), `seconds` (to fit and predict one fold). interval: the 90 % interval of `fitted`.
    """

    name: str
    fitted: FittedPredictor
    table: pd.DataFrame
    interval: Interval

    def predict(self, nets: Nets) -> pd.DataFrame:
        """One row for each architecture: `mean`, `std`, `low` and `high` (the 90 % interval)."""
        mean, std = self.fitted.predict(nets)
        low, high = self.interval.bounds(mean, std)
        return pd.DataFrame({"mean": mean, "std": std, "low": low, "high": high})


@dataclass(frozen=True)
class Problem:
    """The points, the scale, and the folds (fitted, left out) that all are judged on."""

    features: Features
    table: Table
    y: Array
    scale: Scale
    folds: list[tuple[Indices, Indices]]

    @property
    def target(self) -> Array:
        return np.log(self.y) if self.scale == "log" else self.y


def choose(
    features: Features,
    nets: Nets,
    y: Sequence[float] | Array,
    *,
    scale: Scale = "linear",
    metric: Metric | None = None,
    methods: Sequence[str | Method] | None = None,
    baselines: Mapping[str, Sequence[float] | Array] | None = None,
    rivals: Mapping[str, Rival] | None = None,
) -> Choice:
    """The predictor with the lowest error at points left out, fitted to all points.

    metric: MAPE at scale log, else RMSE.
    methods: names or settings; None: all that fit the scale. baselines: name -> one positive number for each
    architecture (parameters, FLOPs), from which y is predicted by a straight line over its logarithm.
    Errors: as `Predictor.fit`; lengths that differ; an unknown metric.
    """
    table = nets if isinstance(nets, Table) else features.table(nets)
    values = checked(y, len(table), scale)
    metric = metric or ("mape" if scale == "log" else "rmse")
    if metric not in COLUMNS[:-1]:
        raise unknown("metric", metric, COLUMNS[:-1])
    problem = Problem(features, table, values, scale, _folds(len(table)))
    named = map(load_method, method_names() if methods is None else methods)
    usable = [method for method in named if scale in method.scales]
    if not usable:
        raise UserError(f"none of these predictors can be used at scale {scale!r}; give others")
    lines = {name: _line(problem, _column(name, column, len(table))) for name, column in (baselines or {}).items()}
    tried = {method.name: _left_out(problem, method) for method in usable}
    others = {name: _rival(problem, rival) for name, rival in {**lines, **(rivals or {})}.items()}
    rows = {name: _scores(problem, result) for name, result in {**tried, **others}.items()}
    scores = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("predictor")
    scores = scores.sort_values(metric, ascending=metric != "tau", kind="stable")
    best = next(method for name in scores.index for method in usable if method.name == name)
    fitted, interval = _final(problem, best, tried[best.name])
    return Choice(str(scores.index[0]), fitted, scores, interval)


@dataclass(frozen=True)
class Result:
    """Target, mean and standard deviation of the points left out, fold by fold, and the seconds of a fold."""

    means: list[Array]
    stds: list[Array]
    seconds: float


def _left_out(problem: Problem, method: Method) -> Result:
    start, means, stds = perf_counter(), [], []
    predictor = Predictor(problem.features, method, problem.scale)
    for fitted, out in problem.folds:
        model = predictor.fit(problem.table.rows(fitted), problem.y[fitted])
        mean, std = model.predict_target(problem.table.rows(out))
        means.append(mean)
        stds.append(std)
    return Result(means, stds, (perf_counter() - start) / len(problem.folds))


def _rival(problem: Problem, rival: Rival) -> Result:
    start = perf_counter()
    results = [np.asarray(rival(fitted, out), dtype=np.float64) for fitted, out in problem.folds]
    means = [np.log(np.maximum(values, 1e-30)) if problem.scale == "log" else values for values in results]
    return Result(means, [], (perf_counter() - start) / len(problem.folds))


def _line(problem: Problem, column: Array) -> Rival:
    """A straight line over the logarithm of one number."""

    def rival(fitted: Indices, out: Indices) -> Array:
        x = np.log(column)
        slope, start = np.polyfit(x[fitted], problem.target[fitted], 1) if np.ptp(x[fitted]) > 0 else (0.0, np.nan)
        start = problem.target[fitted].mean() if np.isnan(start) else start
        result: Array = start + slope * x[out]
        return np.exp(result) if problem.scale == "log" else result

    return rival


def _scores(problem: Problem, result: Result) -> list[float]:
    """In the order of `COLUMNS`."""
    out = np.concatenate([index for _, index in problem.folds])
    mean = np.concatenate(result.means)
    outcome, true = (np.exp(mean) if problem.scale == "log" else mean), problem.y[out]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(outcome / true - 1)
    rmse = float(np.sqrt(np.mean((outcome - true) ** 2)))
    tau = float(kendalltau(outcome, true).statistic)
    return [float(error.mean()), float(np.median(error)), rmse, tau, result.seconds]


def _final(problem: Problem, method: Method, result: Result) -> tuple[FittedPredictor, Interval]:
    """Fitted to all; its standard deviations scaled to the errors at points left out, and its interval."""
    out = np.concatenate([index for _, index in problem.folds])
    residuals = problem.target[out] - np.concatenate(result.means)
    stds = np.maximum(np.concatenate(result.stds), 1e-30)
    factor = float(np.sqrt(np.mean((residuals / stds) ** 2)))
    fitted = Predictor(problem.features, method, problem.scale).fit(problem.table, problem.y)
    once = slice(len(problem.y))  # folds that were drawn again say nothing new of a point
    interval = conformal(residuals[once], factor * stds[once], problem.scale, normalized=method.knows_distance)
    return replace(fitted, std_factor=factor), interval


def _folds(n: int) -> list[tuple[Indices, Indices]]:
    seeds = range(3 if n < FEW else 1)
    return [f for s in seeds for f in KFold(min(FOLDS, n), shuffle=True, random_state=s).split(np.arange(n))]


def _column(name: str, column: Sequence[float] | Array, n: int) -> Array:
    values = np.asarray(column, dtype=np.float64)
    if values.shape != (n,) or not (np.isfinite(values) & (values > 0)).all():
        raise UserError(f"baseline {name!r} needs one positive number for each of {n} architectures")
    return values
