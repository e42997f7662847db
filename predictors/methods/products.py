"""Sums of products of genes, with weights above zero: what a latency is made of, from as few as five points.

latency = sum over terms of weight x product of columns, such as depth x width x ffn, kernels, bytes. Small models
are searched by a beam, fitted in RELATIVE error and averaged by their Bayesian information criterion. Errors are taken
to follow Student's t, for one net in ten may have been timed while the machine did something else. The prior is in the
code length of a term: short for a constant and the extra columns (a cost, in their order), long for a gene, and for the
product of a term that is in the model with one more gene.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..method import Scale
from ..table import Array, Table
from ..terms import Model, Term, Terms

Indices = NDArray[np.intp]
STEPS = 6
FLOOR = 0.005
"""Relative errors below are as good as none: no clock is better."""
ENOUGH = 400
"""Points on which models are searched; their weights are fitted to all."""
KEPT = 40
"""Models that are averaged."""
TEMPERATURE = 2.0
"""Of the average: the criterion is surer of itself than few points allow."""
FREEDOM = 3
"""Degrees of freedom of Student's t."""


@dataclass(frozen=True)
class Products:
    """beam: models that grow at each size. terms: most in a model. degree: most genes in a product.

    prior: weight of the code length of a term against its gain.
    """

    beam: int = 30
    terms: int = 7
    degree: int = 3
    prior: float = 1.5
    name: ClassVar[str] = "products"
    scales: ClassVar[frozenset[Scale]] = frozenset({"log"})
    knows_distance: ClassVar[bool] = False  # all its models may agree far away

    def fit(self, table: Table, target: Array) -> "FittedProducts":
        some = np.random.default_rng(0).permutation(len(target))[:ENOUGH]
        centre = float(target.mean())
        relative = np.exp(centre - target)
        terms = Terms(table, self.degree)
        result = self._search(terms, table.rows(some), relative[some])
        scores = np.array([score for score, _ in result])
        best = np.argsort(scores, kind="stable")[:KEPT]
        share = np.exp((scores[best].min() - scores[best]) / (2 * TEMPERATURE))
        models = [_fitted(terms, result[i][1], table, relative) for i in best]
        return FittedProducts(terms, models, share / share.sum(), centre)

    def _search(self, terms: Terms, table: Table, relative: Array) -> list[tuple[float, Model]]:
        """(score, model) of the models that the beam held, size by size."""
        n, kept = len(relative), []
        level: list[Model] = [(term,) for term in terms.first]
        seen = set(level)
        for size in range(1, min(self.terms, n - 1) + 1):
            beam = self._best(terms, level, table, relative)
            kept += beam
            grown = {m: None for _, model in beam for m in terms.grow(model) if m not in seen}
            seen |= grown.keys()
            level = list(grown)
            if not level or n <= 2 * size:
                break
        return kept

    def _best(self, terms: Terms, models: list[Model], table: Table, relative: Array) -> list[tuple[float, Model]]:
        """The best models of one size whose weights are all above zero."""
        names = list(dict.fromkeys(term for model in models for term in model))
        place = {term: i for i, term in enumerate(names)}
        x = terms.columns(names, table) * relative[:, None]
        index = np.array([[place[term] for term in model] for model in models])
        weights, errors = robust_fit(x, index)
        n, size = len(x), index.shape[1]
        bits = np.array([terms.length(term) for term in names])[index].sum(axis=1)
        scores = 2 * n * np.log(np.abs(errors).mean(axis=1) + FLOOR) + size * np.log(n) + 2 * self.prior * bits
        valid = np.flatnonzero((weights > 0).all(axis=1))
        order = valid[np.argsort(scores[valid], kind="stable")][: self.beam]
        return [(float(scores[i]), models[i]) for i in order]


@dataclass(frozen=True)
class One:
    """One model: its terms' weights, the standard deviation of its relative error, and the covariance of the weights
    for a unit of it."""

    model: Model
    weights: Array
    error: float
    covariance: Array


@dataclass(frozen=True)
class FittedProducts:
    terms: Terms
    models: list[One]
    share: Array
    centre: float

    def predict(self, table: Table) -> tuple[Array, Array]:
        names: list[Term] = list(dict.fromkeys(term for one in self.models for term in one.model))
        columns = dict(zip(names, self.terms.columns(names, table).T, strict=True))
        means, variances = [], []
        for one in self.models:
            x = np.stack([columns[term] for term in one.model], axis=1)
            value = np.maximum(x @ one.weights, 1e-9)  # of a sum whose terms are all absent
            leverage = np.einsum("nk,kl,nl->n", x, one.covariance, x) / value**2
            means.append(np.log(value))
            variances.append(one.error**2 * (1 + leverage))
        mean = self.share @ np.array(means)
        between = self.share @ (np.array(means) - mean) ** 2
        return mean + self.centre, np.sqrt(between + self.share @ np.array(variances))


def robust_fit(x: Array, index: Indices) -> tuple[Array, Array]:
    """Weights (models, terms) that bring each sum of columns nearest 1, and the errors (models, nets).

    x: (nets, columns), relative; index: (models, terms). Iteratively reweighted least squares, all models at once.
    """
    chosen = x[:, index].transpose(1, 0, 2)
    trust = np.ones(chosen.shape[:2])
    for _ in range(STEPS):
        weighted = chosen * trust[:, :, None]
        gram = weighted.transpose(0, 2, 1) @ chosen + 1e-9 * np.eye(index.shape[1])
        weights = np.linalg.solve(gram, weighted.sum(axis=1)[:, :, None])
        errors = (chosen @ weights)[:, :, 0] - 1
        scale = np.maximum(1.4826 * np.median(np.abs(errors), axis=1, keepdims=True), FLOOR)  # of a normal error
        trust = 1 / (1 + (errors / scale) ** 2 / FREEDOM)
    return weights[:, :, 0], errors


def _fitted(terms: Terms, model: Model, table: Table, relative: Array) -> One:
    x = terms.columns(list(model), table) * relative[:, None]
    weights, errors = robust_fit(x, np.arange(len(model))[None])
    spread = np.abs(errors[0]).mean() * 1.25 + FLOOR  # of a normal error: sqrt(pi / 2)
    n, k = x.shape
    covariance: Array = np.asarray(np.linalg.inv(x.T @ x + 1e-9 * np.eye(k)), dtype=np.float64)
    return One(model, np.maximum(weights[0], 0), float(spread * np.sqrt(n / max(n - k, 1))), covariance)


METHOD = Products()
