"""Guided search: surrogates of every loss and bound, evolution on them, and a batch of the most promising."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ...search_space.architecture import Architecture
from ...search_space.codes import Codes, Rows
from ...search_space.gene_space import GeneSpace
from ..draws import unseen
from ..evaluation import Evaluation
from ..guide.breeding import Breeding, Model, Predicted, fittest
from ..guide.designs import unseen_designs
from ..guide.features import Array, Features
from ..guide.improvement import Improvement
from ..guide.surrogate import Surrogate
from ..pareto import non_dominated

BREEDING = Breeding()
MOST = 1e60
"""Larger numbers (penalties, often) are taken as this: products of them are finite."""
FEWEST = 4
"""Finite evaluations that a surrogate is fitted to."""


@dataclass(frozen=True)
class Guided:
    """Bayesian optimisation over genes, in batches.

    The first `initial` evaluations are the two ends of the space and sizes spread between them. From then on each loss
    and each bound has a surrogate (`surrogate.Surrogate`), fitted anew for every batch to at most `fitted` evaluations,
    the best of them and some at random. NSGA-II on the surrogates finds the front that they foresee (`breeding`). The
    batch is picked from it one by one: each pick draws the surrogates at the candidates from their posterior (Thompson
    sampling) and takes the candidate that adds the most hypervolume to the front and to the picks before it, times
    the probability that it keeps the bounds. A failed evaluation counts as a bound that was broken.

    The first batches, until `early` evaluations, are of `early_batch`: a surrogate of few points errs, and is soon
    corrected. It is what lets a search of 100 evaluations keep up where a net is as good as its weakest part.

    doubt: multiplies the posterior's standard deviation in the draws.
    """

    batch: int = 30
    initial: int = 30
    early: int = 150
    early_batch: int = 10
    fitted: int = 400
    doubt: float = 1.0
    breeding: Breeding = BREEDING
    name: str = "guided"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        seen = {e.architecture for e in evaluations}
        asked: list[Architecture] = []
        if len(evaluations) < self.initial:
            asked = unseen_designs(space, seen, n, rng)
        elif sum(not e.failed for e in evaluations) >= FEWEST:
            n = min(n, self.early_batch) if len(evaluations) < self.early else n
            asked = self._promising(space, evaluations, seen, n, rng)
        return asked + unseen(space, seen.union(asked), n - len(asked), rng)

    def _promising(
        self,
        space: GeneSpace,
        evaluations: Sequence[Evaluation],
        seen: set[Architecture],
        n: int,
        rng: np.random.Generator,
    ) -> list[Architecture]:
        """Up to n members that were not seen. Genes that a row lacks, and that turn out to exist, are drawn."""
        codes = Codes(space)
        picked: dict[Architecture, None] = {}
        for row in self._candidates(codes, evaluations, n, rng):
            if len(picked) == n:
                break
            candidate = codes.architecture(row, rng)
            if candidate not in seen and space.allows(candidate):
                picked[candidate] = None
        return list(picked)

    def _candidates(self, codes: Codes, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator) -> Rows:
        """The front that the surrogates foresee, without what is known; the n picks first."""
        known = Known.of(evaluations)
        kept = known.some(self.fitted, rng)
        rows = codes.rows([known.evaluations[i].architecture for i in kept])
        model = _fit(codes, rows, known.losses[kept], known.violations[kept], known.failed[kept], rng)
        alive = ~known.failed[kept]
        best = fittest(known.losses[kept][alive], known.excess[kept][alive], self.breeding.population)
        parents = rows[alive][best]
        if not codes.space.walk_is_slow:  # else nobody would take absent genes away again
            drawn = np.floor(rng.random(parents.shape) * codes.sizes).astype(np.int64)
            parents = np.where(parents < 0, drawn, parents)
        result = self._breeding(codes).run(model, parents, _membership(codes, rng), rng)
        keys = rng.integers(1, 2**62, rows.shape[1])
        canonical = codes.canonical(result.rows)
        new = np.flatnonzero(~np.isin(canonical @ keys, rows @ keys))
        if len(new) == 0:
            return canonical[:0]
        order = self._picks(model, result.take(new), known, n, rng)
        ordered = np.concatenate([order, np.setdiff1d(np.arange(len(new)), order)])
        return np.asarray(canonical[new[ordered]], dtype=np.int64)

    def _breeding(self, codes: Codes) -> Breeding:
        """Less of it where members have to be built to be known as such."""
        few = self.breeding.generations // 3
        return self.breeding if codes.space.rows_suffice else replace(self.breeding, generations=few)

    def _picks(
        self, model: Model, offspring: Predicted, known: "Known", n: int, rng: np.random.Generator
    ) -> NDArray[np.intp]:
        """Indices of the batch among the candidates."""
        hot = model.features.hot(model.codes.canonical(offspring.rows))
        roots = [np.linalg.cholesky(s.covariance(hot)) for s in model.losses]
        feasible = _feasibility(model, hot)
        front, reference, low = known.front()
        improvement = Improvement(front, reference, np.minimum(low, offspring.losses.min(axis=0)), rng)
        span = np.maximum(reference - low, 1e-12)
        left, picks = np.ones(len(hot), dtype=bool), []
        for _ in range(min(n, len(hot))):
            draw = [root @ rng.standard_normal(len(hot)) for root in roots]
            drawn = offspring.losses + self.doubt * np.stack(draw, axis=1)
            worth = np.where(left, improvement.of(drawn) * feasible, -1.0)
            if worth.max() <= 0:  # nothing is expected to add anything: what is best for some weights
                weighted = (drawn - low) / span @ rng.dirichlet(np.ones(len(span)))
                worth = np.where(left, feasible / (1 + np.exp(np.minimum(weighted, 50.0))), -1.0)
            pick = int(worth.argmax())
            picks.append(pick)
            left[pick] = False
            improvement.add(drawn[pick])
        return np.array(picks, dtype=np.intp)


@dataclass(frozen=True)
class Known:
    """The evaluations as arrays.

    losses: (n, objectives), not finite where failed. violations: (n, bounds). excess: (n,), 0 where all are kept.
    """

    evaluations: Sequence[Evaluation]
    losses: Array
    violations: Array
    failed: NDArray[np.bool_]
    excess: Array

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation]) -> "Known":
        failed = np.array([e.failed for e in evaluations])
        some = next(e for e in evaluations if not e.failed)
        unknown, unbounded = (np.nan,) * len(some.losses), (np.nan,) * len(some.violations)
        losses = np.array([unknown if e.failed else e.losses for e in evaluations], dtype=np.float64).clip(-MOST, MOST)
        bounds = np.array([unbounded if e.failed else e.violations for e in evaluations], dtype=np.float64)
        bounds = bounds.clip(-MOST, MOST)
        return cls(evaluations, losses, bounds, failed, np.maximum(0.0, bounds).sum(axis=1))

    def some(self, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Up to n of them: three quarters are the best, the others are drawn."""
        if len(self.failed) <= n:
            return np.arange(len(self.failed))
        alive = np.flatnonzero(~self.failed)
        best = alive[fittest(self.losses[alive], self.excess[alive], 3 * n // 4)]
        others = np.setdiff1d(np.arange(len(self.failed)), best)
        return np.concatenate([best, rng.choice(others, min(n - len(best), len(others)), replace=False)])

    def front(self) -> tuple[Array, Array, Array]:
        """The feasible front; a reference a tenth beyond its worst (beyond all, where none is feasible); its best."""
        feasible = self.losses[~self.failed & (self.excess <= 0)]
        front = feasible[non_dominated(feasible)]
        over = front if len(front) else self.losses[~self.failed]
        low, high = over.min(axis=0), over.max(axis=0)
        return front, high + 0.1 * np.maximum(high - low, 1e-9), low


def _fit(
    codes: Codes, rows: Rows, losses: Array, violations: Array, failed: NDArray[np.bool_], rng: np.random.Generator
) -> Model:
    """Bounds that nothing has come up against need no surrogate."""
    features = Features(codes)
    hot, alive = features.hot(rows), ~failed
    bounds = [c for c in violations[alive].T if (c > 0).any()]
    models = [Surrogate(features, hot[alive], column, rng) for column in losses[alive].T]
    limits = [Surrogate(features, hot[alive], column, rng) for column in bounds]
    if failed.any():
        limits.append(Surrogate(features, hot, np.where(failed, 1.0, -1.0), rng))
    return Model(codes, features, models, limits)


def _feasibility(model: Model, hot: NDArray[np.float32]) -> Array:
    """Probability of each candidate that it keeps every bound, never quite 0."""
    result = np.ones(len(hot))
    for bound in model.violations:
        deviation = np.sqrt(np.diag(bound.covariance(hot)) + bound.noise_variance)
        result *= ndtr(-bound.mean(hot) / deviation)
    return np.maximum(result, 1e-12)


def _membership(codes: Codes, rng: np.random.Generator) -> Callable[[Rows], NDArray[np.bool_]] | None:
    """Which rows keep the requirements, each asked for once. None: all do, or asking would take too long."""
    if codes.space.rows_suffice or codes.space.walk_is_slow:
        return None
    known: dict[bytes, bool] = {}

    def allowed(rows: Rows) -> NDArray[np.bool_]:
        for row in rows:
            if row.tobytes() not in known:
                known[row.tobytes()] = codes.space.allows(codes.architecture(row, rng))
        return np.array([known[row.tobytes()] for row in rows])

    return allowed


ALGORITHM = Guided()
