"""A Gaussian process over genes and pairs of genes, whose variances say which matter (see `predictors.pairs`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from ...search_space.paths import kind_of
from ..method import BOTH, Scale
from ..pairs import Prior, learn, noisy_root
from ..table import Array, Table

Unit = tuple[tuple[int, ...], float | None]
"""A feature: the sum over these gene columns (from -1 down: an extra column), or how many of them have that value."""
Block = list[Unit]
"""Features that matter together or not at all."""
LEVELS = 12
"""The most values of a gene that are distinguished one by one."""


@dataclass(frozen=True)
class Pairs:
    """The search's own surrogate. most: points that it is fitted to, drawn at random from more."""

    most: int = 1000
    name: ClassVar[str] = "pairs"
    scales: ClassVar[frozenset[Scale]] = BOTH
    knows_distance: ClassVar[bool] = True

    def fit(self, table: Table, target: Array) -> "FittedPairs":
        some = np.random.default_rng(0).permutation(len(target))[: self.most]
        table, target = table.rows(some), target[some]
        result, spread = list(_blocks(table)), max(float(target.std()), 1e-12)
        units = [unit for block in result for unit in block]
        blocks = np.repeat(np.arange(len(result)), [len(block) for block in result])
        phi = _matrix(units, table)
        middle, scale = phi.mean(axis=0), np.maximum(phi.std(axis=0).mean(), 1e-12)
        phi = (phi - middle) / scale
        prior = learn(phi, (target - target.mean()) / spread, blocks)
        root = noisy_root(prior.kernel(phi, phi), prior.noise)
        alpha = cho_solve((root, True), (target - target.mean()) / spread, check_finite=False)
        return FittedPairs(units, middle, float(scale), prior, phi, root, alpha, float(target.mean()), spread)


@dataclass(frozen=True)
class FittedPairs:
    """phi: (n, features) of the known architectures, centred; root: Cholesky factor of their covariance with noise."""

    units: list[Unit]
    middle: Array
    scale: float
    prior: Prior
    phi: Array
    root: Array
    alpha: Array
    mean: float
    spread: float

    def predict(self, table: Table) -> tuple[Array, Array]:
        phi = (_matrix(self.units, table) - self.middle) / self.scale
        shared = self.prior.kernel(self.phi, phi)
        explained = solve_triangular(self.root, shared, lower=True, check_finite=False)
        own = (phi**2) @ self.prior.single + self.prior.pairs * ((phi**2) @ self.prior.double) ** 2
        variance = np.maximum(own - (explained**2).sum(axis=0), 0.0) + self.prior.noise
        return self.mean + self.spread * (shared.T @ self.alpha), self.spread * np.sqrt(variance)


def _blocks(table: Table) -> Iterator[Block]:
    """Each gene by its options and, if it is a number, by its size; the same summed over genes that are alike but for
    their first number (`layers.0.ffn`, `layers.1.ffn`); each extra column by itself."""
    genes: dict[str, list[int]] = {}
    for column, name in enumerate(table.gene_names):
        genes.setdefault(name.partition("=")[0], []).append(column)
    alike: dict[tuple[str, ...], list[list[int]]] = {}
    for name, columns in genes.items():
        yield from _of_genes(table, [columns])
        options = (table.gene_names[column].partition("=")[2] for column in columns)
        alike.setdefault((kind_of(name, 1), *options), []).append(columns)
    for members in alike.values():
        if len(members) > 1:
            yield from _of_genes(table, members)
    for column in range(len(table.extra_names)):
        yield [((-1 - column,), None)]


def _of_genes(table: Table, members: list[list[int]]) -> Iterator[Block]:
    """Blocks of one gene, or of several that are alike: a number has one column, alternatives one each."""
    if len(members[0]) > 1 or "=" in table.gene_names[members[0][0]]:
        yield [(tuple(options), None) for options in zip(*members, strict=True)]
        return
    columns = tuple(column for (column,) in members)
    yield [(columns, None)]
    levels = np.unique(table.genes[:, columns])
    if 2 < len(levels) <= LEVELS:
        yield [(columns, float(level)) for level in levels if level > 0]


def _matrix(units: list[Unit], table: Table) -> Array:
    return np.stack([_column(columns, level, table) for columns, level in units], axis=1)


def _column(columns: tuple[int, ...], level: float | None, table: Table) -> Array:
    if columns[0] < 0:
        return np.asarray(np.log1p(table.extras[:, -1 - columns[0]]))
    values = table.genes[:, columns]
    counted = values if level is None else np.isclose(values, level)
    return np.asarray(counted.sum(axis=1) * len(columns) ** -0.5)


METHOD = Pairs()
