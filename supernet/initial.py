"""The tensors of a supernet: the largest of their names, and what they start as."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..search_space.architecture import Architecture
from ..search_space.corner import fits
from ..search_space.layout import Layout
from ..search_space.probe import Probe
from ..search_space.space import SearchSpace


def owners_of(probes: Sequence[Probe]) -> dict[str, Probe]:
    """For every parameter's name, the probe that shows its largest shape. Error: shapes that do not nest."""
    return {name: _largest(name, probes) for name in dict.fromkeys(n for probe in probes for n in probe.shapes)}


def _largest(name: str, probes: Sequence[Probe]) -> Probe:
    """The probe that shows `name` at a shape which holds all its other shapes as corners."""
    owners = [p for p in probes if name in p.layouts]
    best = max(owners, key=lambda p: torch.Size(p.shapes[name]).numel())
    for probe in owners:
        if not fits(probe.layouts[name], best.layouts[name]):
            raise not_nested(name, probe.layouts[name], best.layouts[name])
    return best


def not_nested(name: str, a: Layout, b: Layout) -> UserError:
    """A sentence for a parameter that has these layouts in two nets."""
    return UserError(
        f"parameter {name} cannot be nested: it has shape {_text(a)} in one net and {_text(b)} in another, and "
        "neither is a corner of the other; give alternatives their own names or sizes that grow together"
    )


def _text(layout: Layout) -> str:
    """(128, 64), or (4*2*16, 64) where a dimension has factors."""
    return "(" + ", ".join("*".join(map(str, factors)) for factors in layout) + ")"


def starting_values(
    space: SearchSpace, owners: Mapping[str, Probe], seed: int, given: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Every parameter and buffer at its largest shape: the given one, else as `initial_values` has it."""
    fitting = {name: p for name, p in given.items() if name in owners and p.shape == owners[name].shapes.get(name)}
    return fitting | initial_values(space, {n: probe for n, probe in owners.items() if n not in fitting}, seed)


def initial_values(space: SearchSpace, owners: Mapping[str, Probe], seed: int) -> dict[str, Tensor]:
    """Every parameter and buffer at its largest shape, taken from a real build of the net that has it so."""
    by_owner: dict[Architecture, list[str]] = {}
    for name, probe in owners.items():
        by_owner.setdefault(probe.architecture, []).append(name)
    values: dict[str, Tensor] = {}
    for architecture, names in by_owner.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = space.build(architecture)
        built = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        values.update({name: _own(built[name]) for name in names})
    return {name: values[name] for name in owners}


def _own(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy
