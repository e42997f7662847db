"""What one run of a space function shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

from torch import nn

from .architecture import Architecture, GeneValue
from .layout import Layout
from .quantization import Scheme
from .trial import Gene


@dataclass(frozen=True)
class Probe:
    """One run of the space function: the genes it asked for, in order, the shape of every parameter, and the policy.

    buffers: the layouts of those that state dicts hold.
    """

    architecture: Architecture
    genes: Mapping[str, Gene]
    shapes: Mapping[str, tuple[int, ...]]
    layouts: Mapping[str, Layout]
    policy: Mapping[str, Scheme]
    buffers: Mapping[str, Layout]

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of parameters; then bits: first the fewer of each part's weights and activations, then both."""
        pairs = [(scheme.weights, scheme.activations) for scheme in self.policy.values()]
        return sum(prod(shape) for shape in self.shapes.values()), sum(map(min, pairs)), sum(map(sum, pairs))


class Probed(Protocol):
    """A space that was probed: what deriving and checking its axes needs."""

    @property
    def genes(self) -> Mapping[str, Gene]: ...

    @property
    def probes(self) -> Sequence[Probe]: ...

    def probe(self, choices: Mapping[str, GeneValue]) -> Probe: ...

    def build(self, choices: Mapping[str, GeneValue], device: str = "cpu") -> nn.Module: ...

    def allows(self, architecture: Architecture) -> bool: ...

    def layouts(self, module: nn.Module) -> dict[str, Layout]: ...
