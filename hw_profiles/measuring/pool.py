"""Which nets to time: a pool drawn from spaces, a first choice spread over cost, then those that teach most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...errors import UserError
from ...search_space.architecture import Architecture
from ...search_space.locate import describe_space, space_from
from ...search_space.space import SearchSpace
from ...search_space.transformer import TransformerFunction, TransformerSpace
from ..cost import Cost, trace_cost
from ..cost.flat import tensors_of

Array = NDArray[np.float64]
AnySpace = str | TransformerSpace | SearchSpace
"""A preset, FILE.yaml or FILE.py:FUNCTION; the options of a transformer; a space."""
SURE = 0.15
"""What is left unknown of a net that was timed, in units of what is not known of any net before: more chooses nets that
are typical, less those that are odd."""


@dataclass(frozen=True)
class Inputs:
    """What goes into the nets: the shape of one input without batch, the batch, and the numbers of outputs and tokens.

    given: what nets of a space that is not bound to inputs are called with, in the place of noise of that shape.
    """

    shape: tuple[int, ...]
    batch: int = 1
    classes: int = 10
    vocabulary: int = 0
    given: Any = None

    @property
    def interface(self) -> dict[str, Any]:
        """What a space is described for."""
        return {"input_shape": self.shape, "classes": self.classes, "vocabulary": self.vocabulary}

    def example(self, space: SearchSpace) -> Any:
        """Noise (the same each time); token ids where the space takes tokens. A bound space brings its own shape."""
        if self.given is not None:
            return self.given
        bound = space.function if isinstance(space.function, TransformerFunction) else None
        shape = (self.batch, *(bound.input_shape if bound else self.shape))
        generator = torch.Generator().manual_seed(0)
        if bound and bound.vocabulary:
            return torch.randint(bound.vocabulary, shape, generator=generator)
        return torch.rand(shape, generator=generator)


@dataclass(frozen=True)
class Source:
    """A space of the pool, its name and the input of its nets."""

    family: str
    space: SearchSpace
    example: Any

    @property
    def shapes(self) -> list[list[int]]:
        """Of the tensors that a net is called with, with the batch."""
        return [list(tensor.shape) for tensor in tensors_of(self.example)]

    def cost(self, architecture: Architecture, precision: str) -> Cost:
        return trace_cost(self.space.skeleton(architecture), self.example, precision)


@dataclass(frozen=True)
class Net:
    """One net of the pool."""

    source: Source
    architecture: Architecture
    cost: Cost

    @property
    def key(self) -> tuple[str, str]:
        """Family and id."""
        return self.source.family, self.architecture.id

    def build(self) -> nn.Module:
        """The module, with random weights: the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.source.space.build(self.architecture).eval()


def sources(spaces: AnySpace | Sequence[AnySpace], inputs: Inputs) -> list[Source]:
    """Spaces as a user gives them, bound to the inputs. Errors: no space; two of one name."""
    listed = [spaces] if isinstance(spaces, str | TransformerSpace | SearchSpace) else list(spaces)
    if not listed:
        raise UserError("a profile needs a space to take its nets from")
    results = [_source(space, f"space-{i}", inputs) for i, space in enumerate(listed, 1)]
    names = [source.family for source in results]
    if len(set(names)) < len(names):
        raise UserError(f"a space is given twice: {', '.join(names)}")
    return results


def _source(given: AnySpace, name: str, inputs: Inputs) -> Source:
    if isinstance(given, str):
        name = given.rpartition("/")[2]
        space = space_from(describe_space(given, **inputs.interface))
    elif isinstance(given, TransformerSpace):
        space = SearchSpace(given.bind(**inputs.interface))
    else:
        space = given
    return Source(name, space, inputs.example(space))


def draw(source: Source, n: int, precision: str, seed: int) -> list[Net]:
    """Up to `n` different nets: a third drawn evenly, a third crossed with the smallest, a third with the largest.

    Drawn evenly alone, sums over layers crowd in the middle and leave the ends of the space to extrapolation.
    """
    space, rng = source.space, np.random.default_rng(seed)
    ends = (space.smallest, space.largest)
    result = dict.fromkeys(ends)
    for k in range(2 * n):
        if len(result) >= n:
            break
        architecture = space.sample(rng)
        result[architecture if k % 3 == 0 else space.crossover(architecture, ends[k % 3 - 1], rng)] = None
    return [Net(source, a, source.cost(a, precision)) for a in result]


def spread(sizes: Sequence[float], n: int) -> list[int]:
    """Indices of `n` items, evenly over the logarithm of their sizes; the smallest and the largest are among them."""
    logs = np.log(np.asarray(sizes))
    open_, chosen = list(range(len(logs))), []
    for goal in np.linspace(logs.min(), logs.max(), min(n, len(logs))):
        best = min(open_, key=lambda i: abs(logs[i] - goal))
        open_.remove(best)
        chosen.append(best)
    return chosen


def telling(covariance: Array, given: Sequence[int], n: int) -> list[int]:
    """Indices of `n` nets, `given` ones first: each next one takes most from the variance of all together.

    covariance: (nets, nets) of log latencies, before any is known. Active learning after Cohn (1996).
    """
    posterior, chosen = covariance.copy(), list(given)
    for i in given:
        posterior = _learnt(posterior, i)
    while len(chosen) < n:
        gain = (posterior**2).sum(axis=0) / (np.diag(posterior) + SURE**2)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        posterior = _learnt(posterior, chosen[-1])
    return chosen


def _learnt(covariance: Array, i: int) -> Array:
    """The covariance when one net is known."""
    column = covariance[:, i]
    result: Array = covariance - np.outer(column, column) / (column[i] + SURE**2)
    return result
