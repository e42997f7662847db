"""LINAS (Cummings et al., 2022: "A hardware-aware framework for accelerating NAS"): the search of Intel's DyNAS-T."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVR

from ...search_space.architecture import Architecture
from ...search_space.codes import Codes, Rows
from ...search_space.gene_space import GeneSpace
from ..draws import unseen
from ..evaluation import Evaluation

FOLDS = 5


@dataclass(frozen=True)
class Linas:
    """Each loop: one predictor for each loss on all evaluations, a fresh NSGA-II on the predictors, and its last
    population is evaluated. The first population is random.

    A baseline as published (and as in DyNAS-T) but for three things: what was evaluated is not asked for again (random
    nets fill the batch), a predicted violation counts as a constraint, and of the hundred penalties that are tried for
    each predictor a few. inner: evaluations of the predictors in each loop.
    """

    batch: int = 50
    population: int = 50
    inner: int = 20_000
    name: str = "linas"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        codes, seen = Codes(space), {e.architecture for e in evaluations}
        good = [e for e in evaluations if not e.failed]
        enough = len(good) >= 2 * FOLDS
        rows = self._population(codes, good, rng) if enough else codes.rows([])
        result = (codes.architecture(row, rng) for row in rows)
        asked = [a for a in dict.fromkeys(result) if a not in seen and space.allows(a)][:n]
        return asked + unseen(space, seen.union(asked), n - len(asked), rng)

    def _population(self, codes: Codes, good: Sequence[Evaluation], rng: np.random.Generator) -> Rows:
        x = _one_hot(codes, codes.rows([e.architecture for e in good]))
        losses, bounds = np.array([e.losses for e in good]), np.array([e.violations for e in good])
        predictors = [_predictor(x, y) for y in losses.T]
        limits = [_predictor(x, y) for y in bounds.T if (y > 0).any()]

        class Predicted(Problem):  # type: ignore[misc]
            def _evaluate(self, X: NDArray[np.float64], out: dict[str, Any], *_: Any, **__: Any) -> None:
                features = _one_hot(codes, codes.canonical(X.astype(np.int64)))
                out["F"] = np.stack([p.predict(features) for p in predictors], axis=1)
                if limits:
                    out["G"] = np.stack([p.predict(features) for p in limits], axis=1)

        algorithm = NSGA2(
            pop_size=self.population,
            sampling=IntegerRandomSampling(),
            crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
            mutation=PM(prob=0.02, eta=20, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        problem = Predicted(
            n_var=len(codes.sizes), n_obj=losses.shape[1], n_ieq_constr=len(limits), xl=0, xu=codes.sizes - 1, vtype=int
        )
        result = minimize(
            problem, algorithm, ("n_eval", min(self.inner, codes.space.size)), seed=int(rng.integers(2**31))
        )
        return np.asarray(result.pop.get("X"), dtype=np.int64)


def _one_hot(codes: Codes, rows: Rows) -> NDArray[np.float64]:
    """(n, options): an absent gene has its first option."""
    return np.hstack([np.eye(size)[column] for size, column in zip(codes.sizes, np.maximum(rows, 0).T, strict=True)])


def _predictor(x: NDArray[np.float64], y: NDArray[np.float64]) -> Any:
    """The better of ridge regression and a support vector machine by cross-validated relative error.

    Of y in a unit in which its largest is 10 to 100, for which the penalties are meant; the order is the same.
    """
    largest = np.abs(y).max()
    y = y / 10 ** (np.floor(np.log10(largest)) - 1) if largest > 0 else y
    grids: list[tuple[Any, dict[str, list[float]]]] = [
        (Ridge(), {"alpha": [0.1, 0.5, 1.0, 5.0, 10.0]}),
        # gamma: 1 / columns, as published; sklearn's default is five times as narrow for one-hot columns
        (SVR(kernel="rbf", gamma="auto", epsilon=0.0), {"C": [1.0, 10.0, 100.0]}),
    ]
    scoring = "neg_mean_absolute_percentage_error"
    tried = [GridSearchCV(model, grid, scoring=scoring, cv=FOLDS).fit(x, y) for model, grid in grids]
    return max(tried, key=lambda search: float(search.best_score_)).best_estimator_


ALGORITHM = Linas()
