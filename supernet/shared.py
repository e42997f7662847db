"""Buffers that a supernet holds, as it holds parameters: those that are corners of the largest of their name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..search_space.architecture import Architecture
from ..search_space.buffers import buffer_layouts, persistent_buffers
from ..search_space.corner import Corner, corner, cut, fits
from ..search_space.layout import Layout, entries_of
from ..search_space.probe import Probe
from ..search_space.space import SearchSpace


@dataclass(frozen=True, eq=False)
class Buffer:
    """The largest buffer of a name: its layout, what the space's own code fills it with, and whether that is random."""

    layout: Layout
    initial: Tensor
    random: bool

    def corner(self, layout: Layout, value: Tensor) -> Corner | None:
        """Where a net's buffer, filled with `value` by its own code, lies in the largest.

        None: it is a table that depends on the net's sizes in another way (of relative positions, of waves), which no
        other net's holds.
        """
        if not fits(layout, self.layout):
            return None
        result = corner(layout, self.layout)
        part = cut([self.initial], [result])[0]
        same = part.dtype == value.dtype and (self.random or torch.equal(part, value))
        return result if same else None

    def differs(self, now: Tensor) -> bool:
        """Whether training, or what was loaded, has changed it."""
        return not now.is_meta and not torch.equal(now.cpu(), self.initial.to(now.dtype))


def largest_buffers(probes: Sequence[Probe]) -> dict[str, Probe]:
    """For every name of a buffer in state dicts, the probe that shows it at its most entries."""
    results: dict[str, Probe] = {}
    for probe in probes:
        for name, layout in probe.buffers.items():
            if name not in results or entries_of(layout) > entries_of(results[name].buffers[name]):
                results[name] = probe
    return results


def shared_buffers(space: SearchSpace, owners: Mapping[str, Probe], values: Mapping[str, Tensor]) -> dict[str, Buffer]:
    """The buffers of the supernet. values: of another build of their owners, which tells what is random."""
    result = {}
    for name, probe in owners.items():
        initial = dict(space.skeleton(probe.architecture).named_buffers())[name]
        random = not torch.equal(initial, values[name])
        result[name] = Buffer(probe.buffers[name], values[name].clone(), random)
    return result


def buffers_in(space: SearchSpace, architecture: Architecture, buffers: Mapping[str, Buffer]) -> dict[str, Corner]:
    """Where the buffers of a net lie in the supernet's; those that are its own are left out."""
    skeleton = space.skeleton(architecture)
    layouts = buffer_layouts(skeleton, space.layouts(skeleton))
    shared = {n: b for n, b in persistent_buffers(skeleton).items() if n in buffers}
    corners = {n: buffers[n].corner(layouts[n], b) for n, b in shared.items()}
    return {name: result for name, result in corners.items() if result is not None}
