"""The mask test: a small net must compute what a large one does whose entries outside the small one's corner are zero.

If it does, the small net is a sub-network of the large one: the definition of weight sharing, and a proof. Any value of
the other entries proves it, so several are tried.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..corner import Corner, corner
from ..inputs import Inputs
from ..layout import Layout
from .nets import Net, Run, Values, difference, run

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
"""Relative. Parts of published nets compute in float32 whatever they are given."""


@dataclass(frozen=True)
class Pair:
    """A large and a small net that differ in one gene, with the values of the large one and inputs for both."""

    gene: str
    large: Net
    small: Net
    values: Values
    inputs: Inputs
    dtype: torch.dtype = torch.float64

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.dtype]

    @property
    def shared(self) -> list[str]:
        return [name for name in self.small.layouts if name in self.large.layouts]

    @property
    def added(self) -> list[str]:
        """Parameters of the small net that the large one does not have."""
        return [name for name in self.small.layouts if name not in self.large.layouts]

    @property
    def absent(self) -> list[str]:
        """Parameters of the large net that the small one does not have."""
        return [name for name in self.large.layouts if name not in self.small.layouts]

    @property
    def moved(self) -> list[str]:
        """Shared parameters that are smaller in the small net."""
        return [name for name in self.shared if self.small.layouts[name] != self.large.layouts[name]]

    @property
    def skipped(self) -> list[str]:
        """The outermost modules that the small net does not have."""
        mine = self.small.classes
        return [n for n in self.large.classes if n and n not in mine and n.rpartition(".")[0] in mine]

    def with_layouts(self, large: Mapping[str, Layout], small: Mapping[str, Layout]) -> "Pair":
        return replace(self, large=replace(self.large, layouts=large), small=replace(self.small, layouts=small))

    def corner(self, name: str) -> Corner:
        return corner(self.small.layouts[name], self.large.layouts[name])

    def small_values(self) -> dict[str, Tensor]:
        """The parameters of the small net, cut from those of the large one as the supernet cuts them."""
        moved = set(self.moved)
        return {n: self.corner(n).of(self.values[n]) if n in moved else self.values[n] for n in self.shared}

    def masked_values(self, readers_only: bool) -> dict[str, Tensor]:
        """The values of the large net with zeros outside the corner; or only where other units are read.

        With its readers at zero a unit has no effect, and a parameter by which something is divided keeps its value.
        """
        moved, masked = set(self.moved), {name: self.values[name] for name in self.shared}
        for name in (*moved, *self.absent):
            masked[name] = torch.zeros_like(self.values[name])
        for name in moved:
            small, large = self.small.layouts[name], self.large.layouts[name]
            kept = corner((large[0], *small[1:]) if readers_only and large else small, large)
            kept.write(kept.of(self.values[name]), masked[name])
        return masked


def mask_error(pair: Pair, small: Run | None = None, quick: bool = False) -> tuple[float, Run]:
    """The least relative difference between the outputs that some mask leaves, and the run that left it.

    small: the run of the small net, if there is one. quick: only the plain mask.
    """
    small = small or run(pair.small, pair.small_values(), pair.inputs)
    best: tuple[float, Run] | None = None
    for large in _masked_runs(pair, small, quick):
        error = gap(small, large)
        best = (error, large) if best is None or error < best[0] else best
        if best[0] < pair.tolerance:
            break
    assert best is not None
    return best


def gap(small: Run, large: Run) -> float:
    """The largest difference over all outputs."""
    if len(small.outputs) != len(large.outputs):
        return float("inf")
    return max((difference(a, b) for a, b in zip(small.outputs, large.outputs, strict=True)), default=float("inf"))


def _masked_runs(pair: Pair, small: Run, quick: bool) -> Iterator[Run]:
    for readers_only in (False,) if quick else (False, True):
        values = pair.masked_values(readers_only)
        yield from _runs(pair, values, small, ())
        if pair.skipped and not quick:
            yield from (r for r in _runs(pair, values, small, pair.skipped) if _same_end(pair, small, r))


def _runs(pair: Pair, values: Values, small: Run, skip: Sequence[str]) -> Iterator[Run]:
    """The large net as it is, then with the scalars of the small one: an attention is scaled by its width."""
    large = run(pair.large, values, pair.inputs, skip=skip)
    yield large
    mine, theirs = small.trace.scalars, large.trace.scalars
    if mine != theirs and len(mine) == len(theirs):
        yield run(pair.large, values, pair.inputs, mine, skip)


def _same_end(pair: Pair, small: Run, large: Run) -> bool:
    """Whether the last layer of the small net is followed by the same in the large one.

    In a chain without residuals, skipped layers hand on their input. That must not make a hidden layer the last one: it
    would be followed by an activation where the output layer is not.
    """
    owners = {name.rpartition(".")[0] for name in pair.small.layouts}
    last = max((i for i, (name, _) in enumerate(small.calls) if name in owners), default=None)
    if last is None:
        return True
    name = small.calls[last][0]
    return _following(pair.small, small, name) == _following(pair.large, large, name)


def _following(net: Net, seen: Run, name: str) -> list[type]:
    """The classes of the modules without parameters that are called right after the last call of `name`."""
    classes, owners = net.classes, {n.rpartition(".")[0] for n in net.layouts}
    names = [n for n, _ in seen.calls]
    after: list[type] = []
    for other in names[len(names) - names[::-1].index(name) :] if name in names else []:
        if other in owners:
            break
        after.append(classes[other])
    return after
