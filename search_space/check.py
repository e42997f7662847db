"""What cannot be seen from shapes, checked: is every derived axis really one axis?"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .architecture import Architecture
from .axes import Axis, axes_of, permute
from .layout import Layout
from .probe import Probed

TOLERANCE = 1e-6
MOST_NAMED = 4


@dataclass(frozen=True)
class Finding:
    """A doubt about weight sharing: the gene, and one sentence that says what was seen and what to do."""

    gene: str
    message: str


def check(space: Probed, example: Tensor | None = None, seed: int = 0) -> list[Finding]:
    """Doubts about the nesting of `space`; an empty list means that every axis passed.

    Two tests for each axis. Some tensor must consume it as its input, else the dimension probably stacks several
    projections (a fused qkv) whose layout was not declared. And, where `example` (an input of the nets) is given, its
    members are permuted together: that must not change the outputs, or the axis is not one.
    """
    rigs: dict[Architecture, _Rig] = {}
    found: list[Finding] = []
    for axis in axes_of(space):
        rig = rigs.get(axis.architecture) or rigs.setdefault(axis.architecture, _rig(space, axis, example, seed))
        found += [Finding(axis.gene, f"{_what(axis)}, but {doubt}") for doubt in _doubts(axis, rig)]
    return found


@dataclass(frozen=True)
class _Rig:
    """A net with random weights, ready to be permuted: all in float64."""

    module: nn.Module
    parameters: dict[str, Tensor]
    layouts: dict[str, Layout]
    inputs: Tensor | None
    outputs: Tensor
    generator: torch.Generator


def _rig(space: Probed, axis: Axis, example: Tensor | None, seed: int) -> _Rig:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = space.build(axis.architecture).double().eval()
    parameters = {n: torch.randn(p.shape, generator=generator).double() * 0.3 for n, p in module.named_parameters()}
    inputs = None if example is None else _random_like(example, generator)
    outputs = torch.zeros(1) if inputs is None else _outputs(module, parameters, inputs)
    return _Rig(module, parameters, space.layouts(module), inputs, outputs, generator)


def _what(axis: Axis) -> str:
    names = list(dict.fromkeys(m.parameter for m in axis.members))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"gene {axis.gene!r} moves {', '.join(names[:MOST_NAMED])}{more} from {axis.size} to {axis.small}"


def _doubts(axis: Axis, rig: _Rig) -> list[str]:
    doubts = []
    matrices = any(
        len(rig.layouts[m.parameter]) > 1 for m in axis.members
    )  # a scale consumes nothing and makes nothing
    if matrices and all(m.dim == 0 for m in axis.members):
        doubts.append(f"no tensor consumes {axis.size} inputs; declare the layout of a fused projection")
    moved = permutation_error(axis, rig)
    if moved > TOLERANCE:
        doubts.append(f"permuting them together moves the outputs by {moved:.1e}; the units are not one axis")
    return doubts


def permutation_error(axis: Axis, rig: _Rig) -> float:
    """How much the outputs move, relative to their scale, when `axis` is permuted at random (0 without an input)."""
    if rig.inputs is None:
        return 0.0
    order = torch.randperm(axis.size // axis.unit, generator=rig.generator)
    permuted = permute(rig.parameters, rig.layouts, axis, order)
    after = _outputs(rig.module, permuted, rig.inputs)
    return float((rig.outputs - after).abs().max() / rig.outputs.abs().max().clamp_min(1e-12))


@torch.no_grad()
def _outputs(module: nn.Module, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
    found = functional_call(module, parameters, (inputs,))
    return found if isinstance(found, Tensor) else found[0]


def _random_like(example: Tensor, generator: torch.Generator) -> Tensor:
    """Noise in the shape of a real-valued example; integer examples (tokens) are used as they are."""
    if not example.is_floating_point():
        return example
    return torch.randn(example.shape, generator=generator, dtype=torch.float32).double()
