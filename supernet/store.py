"""The supernet: one tensor for every parameter name of a space; a subnet is the leading corner of every tensor."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.layout import Layout
from ..search_space.probe import Probe
from ..search_space.space import SearchSpace, replace_parameters
from .corner import Corner, corner, cut, fits


class Supernet(nn.Module):
    """Shared weights of every net of `space`. `supernet(x, architecture)` runs a subnet; gradients reach its part only.

    `store` mirrors the names of the nets' parameters: `supernet.store.state_dict()` has their keys. Each tensor has
    the largest shape that the space gives to its name and starts as the space function initialises it (by `seed`).
    `steps`: how nets with a quantization policy are rounded, as far as that was learned (`Recipe.rounding`).
    Errors: a parameter whose shapes have no largest one among them cannot be nested and is refused.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0) -> None:
        super().__init__()
        self.space = space
        owners = {name: _largest(name, space.probes) for name in _names(space.probes)}
        self.layouts: dict[str, Layout] = {name: probe.layouts[name] for name, probe in owners.items()}
        self._fill(_initial_values(space, owners, seed))

    def _fill(self, values: Mapping[str, nn.Parameter]) -> None:
        self.store = _module_tree(values)
        self.steps = nn.ParameterDict()
        self._homes = {name: _home(self.store, name) for name in self.layouts}
        self._corners: dict[Architecture, dict[str, Corner]] = {}
        self._slots: WeakKeyDictionary[nn.Module, list[Slot]] = WeakKeyDictionary()

    @classmethod
    def of(cls, space: SearchSpace, layouts: Mapping[str, Layout], values: Mapping[str, nn.Parameter]) -> "Supernet":
        """A supernet that holds these very tensors, one for every name in `layouts`; in training mode."""
        supernet = cls.__new__(cls)
        nn.Module.__init__(supernet)
        supernet.space, supernet.layouts = space, dict(layouts)
        supernet._fill(values)
        return supernet

    def serving(self, space: SearchSpace) -> "Supernet":
        """A supernet of another space of nets with these parameters (a quantized one), that holds these very tensors.

        Error: a parameter that is not here.
        """
        missing = {name for probe in space.probes for name in probe.layouts} - self.layouts.keys()
        if missing:
            raise UserError(f"the space has parameters that this supernet has not: {', '.join(sorted(missing)[:3])}")
        weights = {name: self.store.get_parameter(name) for name in self.layouts}
        found = Supernet.of(space, self.layouts, weights)
        found.steps = self.steps
        return found.train(self.training)

    def forward(self, x: Any, architecture: Mapping[str, GeneValue], *args: Any, **kwargs: Any) -> Any:
        """Outputs of the subnet `architecture` for the input `x` (and whatever else its forward takes)."""
        with self.filled(self.skeleton(architecture), architecture) as subnet:
            return subnet(x, *args, **kwargs)

    @contextmanager
    def filled(self, skeleton: nn.Module, architecture: Mapping[str, GeneValue]) -> Iterator[nn.Module]:
        """The skeleton of `architecture` with its values in place, for a while."""
        if skeleton not in self._slots:
            self._slots[skeleton] = _slots(skeleton)
        with _filled(self._slots[skeleton], self.parameters_of(architecture)):
            yield skeleton

    def skeleton(self, architecture: Mapping[str, GeneValue]) -> nn.Module:
        """The subnet's module without values, in the supernet's mode (training or evaluation)."""
        skeleton = self.space.skeleton(self._canonical(architecture))
        if skeleton.training != self.training:
            skeleton.train(self.training)
        return skeleton

    def parameters_of(self, architecture: Mapping[str, GeneValue]) -> dict[str, Tensor]:
        """The subnet's parameters by name: corners of the supernet's, differentiable."""
        corners = self.corners(architecture)
        homes = (self._homes[name] for name in corners)
        fulls = [parameters[local] for parameters, local in homes]
        return dict(zip(corners, cut(fulls, list(corners.values())), strict=True))

    def corners(self, architecture: Mapping[str, GeneValue]) -> dict[str, Corner]:
        """Where every parameter of a subnet lies in the supernet's tensors."""
        architecture = self._canonical(architecture)
        if architecture not in self._corners:
            layouts = self.space.layouts(self.space.skeleton(architecture))
            self._corners[architecture] = {name: self._corner(name, layout) for name, layout in layouts.items()}
        return self._corners[architecture]

    def _corner(self, name: str, layout: Layout) -> Corner:
        if name not in self.layouts:
            raise UserError(
                f"parameter {name} was in none of the probed nets; its existence hangs on several genes at once"
            )
        if not fits(layout, self.layouts[name]):
            raise _not_nested(name, layout, self.layouts[name])
        return corner(layout, self.layouts[name])

    def extract(self, architecture: Mapping[str, GeneValue]) -> nn.Module:
        """The subnet as a plain module with its own copy of the weights, in evaluation mode.

        Bit for bit what `supernet(x, architecture)` computes, running statistics (BatchNorm) included.
        """
        architecture = self._canonical(architecture)
        module = self.space.build(architecture, "meta")
        values = {name: value.detach().clone() for name, value in self.parameters_of(architecture).items()}
        named = {id(p): values[name] for name, p in module.named_parameters()}
        replace_parameters(module, lambda p: nn.Parameter(named[id(p)], p.requires_grad))
        buffers = dict(self.space.skeleton(architecture).named_buffers())
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
        return module.eval()

    def _canonical(self, architecture: Mapping[str, GeneValue]) -> Architecture:
        """The caller's architecture, validated; the space's own (already seen) pass at once."""
        if isinstance(architecture, Architecture) and architecture in self._corners:
            return architecture
        return self.space.architecture(architecture)


Slot = tuple[dict[str, Any], str, str]
"""A place that holds a parameter: the parameters of a module, the local name there, the parameter's name in the net."""


def _slots(module: nn.Module) -> list[Slot]:
    """Every place that holds a parameter, each module once: ties share a name."""
    names = {id(p): name for name, p in module.named_parameters()}
    return [
        (owner._parameters, local, names[id(p)])
        for owner in module.modules()
        for local, p in owner._parameters.items()
        if p is not None
    ]


@contextmanager
def _filled(slots: Sequence[Slot], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put `values` in place for a while.

    `torch.func.functional_call` (2.13) does not restore a module that is registered under two names.
    """
    empty = [parameters[local] for parameters, local, _ in slots]
    try:
        for parameters, local, name in slots:
            parameters[local] = values[name]
        yield
    finally:
        for (parameters, local, _), nothing in zip(slots, empty, strict=True):
            parameters[local] = nothing


def _home(store: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where the store holds a parameter: read there, as `to` and the like may put another one in its place."""
    path, _, local = name.rpartition(".")
    return store.get_submodule(path)._parameters, local


def _names(probes: Sequence[Probe]) -> list[str]:
    return list(dict.fromkeys(name for probe in probes for name in probe.shapes))


def _largest(name: str, probes: Sequence[Probe]) -> Probe:
    """The probe that shows `name` at a shape which holds all its other shapes as corners."""
    owners = [p for p in probes if name in p.layouts]
    best = max(owners, key=lambda p: torch.Size(p.shapes[name]).numel())
    for probe in owners:
        if not fits(probe.layouts[name], best.layouts[name]):
            raise _not_nested(name, probe.layouts[name], best.layouts[name])
    return best


def _not_nested(name: str, a: Layout, b: Layout) -> UserError:
    return UserError(
        f"parameter {name} cannot be nested: it has shape {_text(a)} in one net and {_text(b)} in another, and "
        "neither is a corner of the other; give alternatives their own names or sizes that grow together"
    )


def _text(layout: Layout) -> str:
    """(128, 64), or (4*2*16, 64) where a dimension has factors."""
    return "(" + ", ".join("*".join(map(str, factors)) for factors in layout) + ")"


def _initial_values(space: SearchSpace, owners: Mapping[str, Probe], seed: int) -> dict[str, nn.Parameter]:
    """Every parameter at its largest shape, taken from a real build of the net that has it so."""
    by_owner: dict[Architecture, list[str]] = {}
    for name, probe in owners.items():
        by_owner.setdefault(probe.architecture, []).append(name)
    values: dict[str, nn.Parameter] = {}
    for architecture, names in by_owner.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = dict(space.build(architecture).named_parameters())
        values.update({name: nn.Parameter(built[name].detach().clone(), built[name].requires_grad) for name in names})
    return {name: values[name] for name in owners}


def _module_tree(parameters: Mapping[str, nn.Parameter]) -> nn.Module:
    """Nested empty modules that hold the parameters under their dotted names."""
    root = nn.Module()
    for name, parameter in parameters.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, parameter)
    return root
