"""Which subnets one training step runs: each sampling is a function from a space and a generator to passes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from ..errors import UserError, unknown
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.gene_space import TRIES, GeneSpace
from ..search_space.trial import Gene

GROWN = 0.9
"""Share of the steps after which `progressive` draws from the whole space."""


@dataclass(frozen=True)
class Pass:
    """One subnet's forward and backward in a step.

    part: (i, n) runs on the i-th of n equal parts of the batch; weight: of its loss; distils: it learns from the
    outputs of the step's first pass (the largest net) where the recipe distils.
    """

    architecture: Architecture
    part: tuple[int, int] = (0, 1)
    weight: float = 1.0
    distils: bool = False


Sampling = Callable[[GeneSpace, np.random.Generator, int, float], list[Pass]]
"""A space, a generator, how many random nets to draw (where the sampling draws any), and the share of the training's
steps that is done, to the passes of a step."""


def uniform(space: GeneSpace, rng: np.random.Generator, randoms: int, done: float = 1.0) -> list[Pass]:
    """One random subnet a step (SPOS, Guo et al. 2020; AutoFormer, Chen et al. 2021)."""
    del randoms, done
    return [Pass(space.sample(rng))]


def progressive(space: GeneSpace, rng: np.random.Generator, randoms: int, done: float = 1.0) -> list[Pass]:
    """One random subnet a step, small ones first: the bounds of all numbers grow until `GROWN` of the steps.

    Steps of small nets cost little and teach the corner that every net has (as progressive stacking does for one net,
    Gong et al. 2019; once-for-all goes the other way, from large to small, Cai et al. 2020). The bounds grow with the
    square of the steps, so that each of them has about the same share of the time: half of it is for large nets.
    """
    del randoms
    return [Pass(within(space, rng, (done / GROWN) ** 2))]


def within(space: GeneSpace, rng: np.random.Generator, share: float) -> Architecture:
    """A random net whose numbers are among the first `share` of their options (one at least); layers that may be left
    out are, while it is at most a half. Alternatives are drawn from all. A net of the whole space where a requirement
    allows none of these."""
    if share >= 1:
        return space.sample(rng)
    smallest = space.smallest

    def choose(gene: Gene) -> GeneValue:
        options = list(gene.options)
        if all(isinstance(option, bool) for option in options):
            options.sort(key=lambda option: option != smallest.get(gene.name))
        elif not gene.nested:
            return options[int(rng.integers(len(options)))]
        return options[int(rng.integers(max(1, ceil(share * len(options)))))]

    nets = (space.walk(choose) for _ in range(TRIES))
    return next((net for net in nets if space.allows(net)), None) or space.sample(rng)


def sandwich(space: GeneSpace, rng: np.random.Generator, randoms: int, done: float = 1.0) -> list[Pass]:
    """The largest net, some random ones, the smallest; gradients added (Yu & Huang 2019; BigNAS, Yu et al. 2020)."""
    del done
    others = [*(space.sample(rng) for _ in range(randoms)), space.smallest]
    return [Pass(space.largest), *(Pass(a, distils=True) for a in others)]


def matformer(space: GeneSpace, rng: np.random.Generator, randoms: int, done: float = 1.0) -> list[Pass]:
    """Every nested granularity on the same batch, losses added (MatFormer, Devvrit et al. 2023).

    Granularity g: each gene called `ffn_ratio` or `ffn` (numbers) takes its g-th option in all layers at once; the
    other genes are at their largest.
    """
    del rng, randoms, done
    return [Pass(a, distils=i > 0) for i, a in enumerate(granularities(space))]


def granularities(space: GeneSpace) -> list[Architecture]:
    """The nets of `matformer`, the largest first."""
    nested = {n: g for n, g in space.genes.items() if g.nested and g.path[-1] in ("ffn_ratio", "ffn")}
    if not nested:
        raise UserError("the matformer sampling needs nested FFN genes named ffn or ffn_ratio; this space has none")
    largest = space.largest
    depth = max(len(g.options) for g in nested.values())

    def at(level: int) -> Architecture:
        chosen = {n: g.options[max(len(g.options) - 1 - level, 0)] for n, g in nested.items()}
        return space.walk(lambda gene: chosen.get(gene.name, largest.get(gene.name, gene.top)))

    return [at(level) for level in range(depth)]


def multi_arch(space: GeneSpace, rng: np.random.Generator, randoms: int, done: float = 1.0) -> list[Pass]:
    """Twice `randoms` random subnets, each on its part of the batch (ViT-ResNAS, Liao et al. 2021)."""
    del done
    parts = 2 * randoms
    return [Pass(space.sample(rng), part=(i, parts), weight=1 / parts) for i in range(parts)]


SAMPLINGS: dict[str, Sampling] = {
    "uniform": uniform,
    "progressive": progressive,
    "sandwich": sandwich,
    "matformer": matformer,
    "multi-arch": multi_arch,
}


def sampling(name: str) -> Sampling:
    """The sampling of that name."""
    if name not in SAMPLINGS:
        raise unknown("sampling", name, SAMPLINGS)
    return SAMPLINGS[name]
