"""What one run of a space function shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

from torch import nn

from .architecture import Architecture, GeneValue
from .layout import Layout
from .trial import Gene


@dataclass(frozen=True)
class Probe:
    """One run of the space function: the genes it asked for, in order, and the shape of every parameter."""

    architecture: Architecture
    genes: Mapping[str, Gene]
    shapes: Mapping[str, tuple[int, ...]]
    layouts: Mapping[str, Layout]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(prod(shape) for shape in self.shapes.values())


class Probed(Protocol):
    """A space that was probed: what deriving and checking its axes needs."""

    @property
    def genes(self) -> Mapping[str, Gene]: ...

    @property
    def probes(self) -> Sequence[Probe]: ...

    def probe(self, choices: Mapping[str, GeneValue]) -> Probe: ...

    def build(self, choices: Mapping[str, GeneValue], device: str = "cpu") -> nn.Module: ...

    def layouts(self, module: nn.Module) -> dict[str, Layout]: ...
