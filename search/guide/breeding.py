"""Evolution on predictions: thousands of rows of integers bred, scored and thinned at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

from ...search_space.codes import Codes, Rows
from ..pareto import ranks
from .features import Array, Features
from .surrogate import Surrogate


@dataclass(frozen=True)
class Predicted:
    """Rows with what is predicted of them.

    rows: (n, genes) with a value for every gene, also those that do not exist: they come back when a child needs them.
    losses: (n, objectives). excess: (n,) sum of the predicted violations.
    """

    rows: Rows
    losses: Array
    excess: Array

    def take(self, index: NDArray[np.intp]) -> "Predicted":
        return Predicted(self.rows[index], self.losses[index], self.excess[index])

    def join(self, other: "Predicted") -> "Predicted":
        return Predicted(
            np.vstack([self.rows, other.rows]),
            np.vstack([self.losses, other.losses]),
            np.concatenate([self.excess, other.excess]),
        )


@dataclass(frozen=True)
class Model:
    """Surrogates of the losses and of the violations over the rows of a space."""

    codes: Codes
    features: Features
    losses: list[Surrogate]
    violations: list[Surrogate]

    def predict(self, rows: Rows) -> Predicted:
        hot = self.features.hot(self.codes.canonical(rows))
        means = np.stack([s.mean(hot) for s in self.losses], axis=1)
        excess = sum((np.maximum(0.0, s.mean(hot)) for s in self.violations), np.zeros(len(rows)))
        return Predicted(rows, means, excess)

    def best_flips(self, parents: Predicted, skipped: float, rng: np.random.Generator) -> Rows:
        """Each parent with the one option changed that its surrogates like best, for random weights of the objectives.

        skipped: share of the options that are not looked at, another one for each parent: it keeps children apart.
        """
        rows, gene = parents.rows, self.features.gene
        canonical = self.codes.canonical(rows)
        hot = self.features.hot(canonical)
        current = np.maximum(canonical, 0) + self.features.starts
        span = np.maximum(np.ptp(parents.losses, axis=0), 1e-12)
        weights = rng.dirichlet(np.full(len(span), 0.7), len(rows)) / span
        change = sum(weights[:, [j]] * s.flips(hot, current) for j, s in enumerate(self.losses))
        change = np.where(rng.random(np.shape(change)) < skipped, np.inf, change)
        change[(canonical < 0)[:, gene]] = np.inf
        np.put_along_axis(change, current, np.inf, axis=1)
        option = change.argmin(axis=1)
        children, each = rows.copy(), np.arange(len(rows))
        children[each, gene[option]] = option - self.features.starts[gene[option]]
        return children


@dataclass(frozen=True)
class Breeding:
    """generations of `children` each; the best `population` survive.

    informed: share of the children that take their parent's best flip (`Model.best_flips`), of which `skipped` of the
    options are not looked at; the others are mutants, half of them after a uniform crossover. mutation: genes that
    change besides the one that always does.
    """

    population: int = 70
    children: int = 60
    generations: int = 30
    informed: float = 0.5
    skipped: float = 0.7
    mutation: float = 0.5

    def run(
        self,
        model: Model,
        parents: Rows,
        allowed: Callable[[Rows], NDArray[np.bool_]] | None,
        rng: np.random.Generator,
    ) -> Predicted:
        """What survives of the parents' descendants, by constrained rank and crowding as in NSGA-II.

        allowed: which survivors are members of the space, where conditions alone do not say that.
        """
        alive = model.predict(parents)
        keys = rng.integers(1, 2**62, parents.shape[1])
        informed = int(self.informed * self.children)
        for _ in range(self.generations):
            first = alive.take(rng.integers(len(alive.rows), size=informed))
            rest = _mutants(model.codes, alive.rows, self.children - informed, self.mutation, rng)
            alive = alive.join(model.predict(np.vstack([model.best_flips(first, self.skipped, rng), rest])))
            alive = alive.take(np.unique(model.codes.canonical(alive.rows) @ keys, return_index=True)[1])
            alive = alive.take(fittest(alive.losses, alive.excess, self.population))
            if allowed is not None:
                kept = np.flatnonzero(allowed(alive.rows))
                alive = alive.take(kept) if len(kept) else model.predict(parents)
        return alive


def fittest(losses: Array, excess: Array, n: int, lots: Array | None = None) -> NDArray[np.intp]:
    """Indices of the first fronts without excess, the last of them thinned by crowding; then those of least excess.

    lots: of those without excess; among equals the smaller one is first. pymoo's survival does the same, but on
    objects, which takes milliseconds once there are thousands.
    """
    good = np.flatnonzero(excess <= 0)
    bad = np.flatnonzero(excess > 0)
    bad = bad[np.argsort(excess[bad], kind="stable")]
    if len(good) == 0:
        return bad[:n]
    level, room = ranks(losses[good]), np.zeros(len(good))
    edge = np.flatnonzero(level == np.sort(level)[:n][-1])
    room[edge] = get_crowding_function("cd").do(losses[good][edge])
    return np.concatenate([good[np.lexsort((level if lots is None else lots, -room, level))], bad])[:n]


def _mutants(codes: Codes, parents: Rows, n: int, mutation: float, rng: np.random.Generator) -> Rows:
    """Half of them are uniform crossovers first. A nested gene moves to an adjacent option half of the time."""
    sizes = codes.sizes
    a, b = parents[rng.integers(len(parents), size=(2, n))]
    crossed = np.where((rng.random(a.shape) < 0.5) & (rng.random((n, 1)) < 0.5), b, a)
    flip = rng.random(a.shape) < mutation / len(sizes)
    flip[np.arange(n), rng.integers(len(sizes), size=n)] = True
    other = (crossed + 1 + np.floor(rng.random(a.shape) * (sizes - 1)).astype(np.int64)) % sizes
    step = crossed + rng.choice([-1, 1], a.shape)
    near = codes.nested & (rng.random(a.shape) < 0.5) & (step >= 0) & (step < sizes)
    return np.asarray(np.where(flip, np.where(near, step, other), crossed), dtype=np.int64)
