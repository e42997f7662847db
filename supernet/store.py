"""The supernet: one tensor for every parameter name of a space; a subnet is the leading corner of every tensor."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import UncalibratedWarning, UserError
from ..files import write_atomic
from ..search_space.architecture import Architecture, GeneValue, mark
from ..search_space.corner import Corner, corner, cut, fits
from ..search_space.layout import Layout
from ..search_space.quantization import policy_genes
from ..search_space.space import SearchSpace, replace_parameters
from ..search_space.temporary import filled, slots_of
from ..tasks import Task
from .initial import not_nested, owners_of, starting_values
from .memory import check_memory
from .saved import NAME, packed, restore
from .shared import Buffer, buffers_in, largest_buffers, shared_buffers
from .statistics import calibrated, with_statistics
from .tree import Prepared, Store, Where, aliases_of, home, in_first_order, moved

NOT_CALIBRATED = (
    "the net has running statistics (BatchNorm) that were not measured for it, and computes badly without: "
    "supernet.extract(architecture, task) measures them on the task's training inputs, nas.evaluate_subnet(supernet, "
    "task, architecture) evaluates the net with them"
)


class Supernet(nn.Module):
    """Shared weights of every net of `space`. `supernet(x, architecture)` runs a subnet; gradients reach its part only.

    `store` mirrors the names of the nets' parameters and of the buffers that their state dicts hold:
    `supernet.store.state_dict()` has their keys, and loads that of the largest net. Each tensor has the largest shape
    that the space gives to its name and starts as the space function initialises it (by `seed`).
    Running statistics (BatchNorm) in `store` are the largest net's: its forward in training mode moves them. That of
    another net moves those of layers that the largest has not, and all before any net has run. A smaller net needs its
    own, which `extract` measures.
    parameters: those to start from in the place of that, a trained model's (see `nas.adopt`); they are not copied.
    `steps`: how nets with a quantization policy are rounded, as far as that was learned (`Recipe.qat`).
    Errors: a parameter whose shapes have no largest one among them cannot be nested and is refused.

    >>> supernet = nas.Supernet(space)
    >>> supernet(task.example, architecture=space.smallest).shape
    torch.Size([1, 10])
    >>> net = supernet.extract(space.smallest)  # an ordinary module with its own tensors
    """

    def __init__(
        self, space: SearchSpace, *, seed: int = 0, parameters: Mapping[str, nn.Parameter] | None = None
    ) -> None:
        super().__init__()
        owners = owners_of(space.probes)
        check_memory(sum(prod(probe.shapes[name]) for name, probe in owners.items()))
        others = {name: probe for name, probe in largest_buffers(space.probes).items() if name not in owners}
        values = starting_values(space, {**owners, **others}, seed, parameters or {})
        layouts = {name: probe.layouts[name] for name, probe in owners.items()}
        store = Store(values, aliases_of(space.skeleton(space.largest)))
        self._fill(space, layouts, shared_buffers(space, others, values), store)
        self.is_adopted = parameters is not None

    def _fill(
        self, space: SearchSpace, layouts: Mapping[str, Layout], buffers: Mapping[str, Buffer], store: Store
    ) -> None:
        self.space, self.layouts, self.shared, self.store = space, dict(layouts), dict(buffers), store
        self.steps = nn.ParameterDict()
        self._homes = {name: home(store, name) for name in (*layouts, *buffers)}
        self._corners: dict[Architecture, tuple[dict[str, Corner], dict[str, Corner]]] = {}
        self._prepared: WeakKeyDictionary[nn.Module, Prepared] = WeakKeyDictionary()
        self._task: Task | None = None
        self._has_warned = self.is_adopted = False

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write supernet.safetensors: weights, learned steps, checksums. Error: weights that are not finite.

        Returns the file's path. `nas.Supernet.load(folder, space)` reads it.
        """
        return write_atomic(Path(folder) / NAME, packed(self))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], space: SearchSpace) -> "Supernet":
        """The supernet that `save` wrote, in evaluation mode; `space` is what it was saved with, quantized or not.

        Errors: a file that is missing, damaged, or of another space.
        """
        supernet = cls(space)
        restore(supernet, Path(folder) / NAME)
        return supernet.eval()

    @classmethod
    def of(
        cls, space: SearchSpace, layouts: Mapping[str, Layout], buffers: Mapping[str, Buffer], store: Store
    ) -> "Supernet":
        """A supernet that holds these very tensors, one for every name in `layouts` and `buffers`; in training mode."""
        supernet = cls.__new__(cls)
        nn.Module.__init__(supernet)
        supernet._fill(space, layouts, buffers, store)
        return supernet

    def serving(self, space: SearchSpace) -> "Supernet":
        """A supernet of another space of nets with these parameters (a quantized one), that holds these very tensors.

        Error: a parameter that is not here.
        """
        missing = {name for probe in space.probes for name in probe.layouts} - self.layouts.keys()
        if missing:
            raise UserError(f"the space has parameters that this supernet has not: {', '.join(sorted(missing)[:3])}")
        served = Supernet.of(space, self.layouts, self.shared, self.store)
        served.steps, served._task, served.is_adopted = self.steps, self._task, self.is_adopted
        return served.train(self.training)

    def forward(self, *args: Any, architecture: Mapping[str, GeneValue] | None = None, **kwargs: Any) -> Any:
        """Outputs of the subnet `architecture`: `supernet(x, architecture)`, then whatever else its forward takes.

        `supernet(architecture=a, **inputs)` is the same for keywords alone. In evaluation mode running statistics
        are read from `store`; a warning says once if they are not the net's own (see `extract`).
        """
        if architecture is None:
            architecture, args = args[1], (args[0], *args[2:])
        skeleton = self.skeleton(architecture)
        if not self.training and not self._has_warned and not self.is_calibrated(architecture):
            self._has_warned = True
            warnings.warn(NOT_CALIBRATED, UncalibratedWarning, stacklevel=4)
        with self.filled(skeleton, architecture) as subnet:
            return subnet(*args, **kwargs)

    @contextmanager
    def filled(self, skeleton: nn.Module, architecture: Mapping[str, GeneValue]) -> Iterator[nn.Module]:
        """The skeleton of `architecture` with its values in place, for a while."""
        prepared, buffers = self._prepare(skeleton, architecture), self.buffers_of(architecture)
        kept: set[str] = set()
        if skeleton.training and buffers:
            kept = self._kept(architecture)
            buffers = {name: buffer if name in kept else buffer.clone() for name, buffer in buffers.items()}
            self.store.trained(self._is_largest(architecture))
        values = {**self.parameters_of(architecture), **buffers, **prepared.constants}
        if not skeleton.training:
            values = self._in_first_order(values, architecture)
        with filled(prepared.slots, values):
            yield skeleton
            now = {name: places[local] for places, local, name in prepared.slots if name in kept}
        self._keep(now, self.buffer_corners(architecture))

    def skeleton(self, architecture: Mapping[str, GeneValue]) -> nn.Module:
        """The subnet's module without values, in the supernet's mode (training or evaluation)."""
        skeleton = self.space.skeleton(self._canonical(architecture))
        if skeleton.training != self.training:
            skeleton.train(self.training)
        return skeleton

    def _prepare(self, skeleton: nn.Module, architecture: Mapping[str, GeneValue]) -> "Prepared":
        corners, where = self.corners(architecture), self._where(skeleton)
        prepared = self._prepared.get(skeleton)
        if prepared is None or prepared.where != where:
            shared = {*corners, *self.buffer_corners(architecture)}
            constants = {n: moved(b, where) for n, b in skeleton.named_buffers() if n not in shared} if where else {}
            prepared = Prepared(where, slots_of(skeleton, {*shared, *constants}), constants)
            self._prepared[skeleton] = prepared
        return prepared

    def _where(self, skeleton: nn.Module) -> Where | None:
        """The device and precision that the weights were moved to, which constants follow; None: as they were built."""
        for name, built in skeleton.named_parameters():
            places, local = self._homes[name]
            now = places[local]
            dtype = None if now.dtype == built.dtype else now.dtype
            return None if dtype is None and now.device.type == "cpu" else (now.device, dtype)
        return None

    def parameters_of(self, architecture: Mapping[str, GeneValue]) -> dict[str, Tensor]:
        """The subnet's parameters by name: corners of the supernet's, differentiable."""
        return self._cut(self.corners(architecture))

    @torch.no_grad()
    def buffers_of(self, architecture: Mapping[str, GeneValue]) -> dict[str, Tensor]:
        """The subnet's buffers by name, as far as they are corners of the supernet's."""
        return self._cut(self.buffer_corners(architecture))

    def _cut(self, corners: Mapping[str, Corner]) -> dict[str, Tensor]:
        fulls = [places[local] for places, local in map(self._homes.__getitem__, corners)]
        return dict(zip(corners, cut(fulls, list(corners.values())), strict=True))

    def _in_first_order(self, values: dict[str, Tensor], architecture: Mapping[str, GeneValue]) -> dict[str, Tensor]:
        """The largest net as it was before it was sorted (`sort_by_importance`): sums of floats depend on the order."""
        orders = self.store.orders
        if not orders or policy_genes(architecture) or not self._is_largest(architecture):
            return values
        return in_first_order(values, orders)

    def _is_largest(self, architecture: Mapping[str, GeneValue]) -> bool:
        """Whether it is the largest net, with any quantization policy."""
        policies = set(policy_genes(architecture))
        return all(self.space.largest.get(name) == v for name, v in architecture.items() if name not in policies)

    def is_calibrated(self, architecture: Mapping[str, GeneValue]) -> bool:
        """Whether the running statistics in `store`, if the net has any, are its own."""
        architecture = self._canonical(architecture)
        if self.store.statistics_of == "largest" and self._is_largest(architecture):
            return True
        return not with_statistics(self.space.skeleton(architecture)) and not self._changed(architecture)

    def _changed(self, architecture: Architecture) -> set[str]:
        """The net's buffers that `store` holds otherwise than the space's own code fills them."""
        homes = {name: self._homes[name] for name in self.buffer_corners(architecture)}
        return {n for n, (places, local) in homes.items() if self.shared[n].differs(places[local])}

    def _kept(self, architecture: Mapping[str, GeneValue]) -> set[str]:
        """The buffers in `store` that the net's forward in training mode moves."""
        names = set(self.buffer_corners(architecture))
        if self._is_largest(architecture) or self.store.statistics_of == "nobody":
            return names
        return names - self.buffer_corners(self.space.largest).keys()

    @torch.no_grad()
    def _keep(self, buffers: Mapping[str, Tensor], corners: Mapping[str, Corner]) -> None:
        """Write back what a forward left: a corner, or a tensor that a module put in the place of its buffer."""
        for name, buffer in buffers.items():
            places, local = self._homes[name]
            if places[local] is not buffer:
                corners[name].write(buffer, places[local].data)  # autograd must not see it: torch's norms hide it too

    def corners(self, architecture: Mapping[str, GeneValue]) -> dict[str, Corner]:
        """Where every parameter of a subnet lies in the supernet's tensors."""
        architecture = self._canonical(architecture)
        if architecture not in self._corners:
            layouts = self.space.layouts(self.space.skeleton(architecture))
            corners = {name: self._corner(name, layout) for name, layout in layouts.items()}
            self._corners[architecture] = corners, buffers_in(self.space, architecture, self.shared)
        return self._corners[architecture][0]

    def buffer_corners(self, architecture: Mapping[str, GeneValue]) -> dict[str, Corner]:
        """The same of the buffers that state dicts hold, as far as they are corners of the supernet's."""
        architecture = self._canonical(architecture)
        self.corners(architecture)
        return self._corners[architecture][1]

    def _corner(self, name: str, layout: Layout) -> Corner:
        if name not in self.layouts:
            raise UserError(
                f"parameter {name} was in none of the probed nets; its existence depends on several genes at once"
            )
        if not fits(layout, self.layouts[name]):
            raise not_nested(name, layout, self.layouts[name])
        return corner(layout, self.layouts[name])

    def extract(self, architecture: Mapping[str, GeneValue], task: Task | None = None) -> nn.Module:
        """The subnet as a plain module with its own copy of the weights, in evaluation mode.

        task: on its training inputs running statistics (BatchNorm) are measured, as `evaluate_subnet` does. None: the
        task of the last training or evaluation of this supernet; a warning says if there is none.
        The largest net keeps the statistics that it has if it alone was trained, or loaded (`store.load_state_dict`).
        Without running statistics it is bit for bit what `supernet(x, architecture)` computes.
        """
        architecture = self._canonical(architecture)
        module = self._copy(architecture).eval()
        mark(module, architecture)
        self._task = task or self._task
        if self.is_calibrated(architecture):
            return module
        if self._task is None:
            warnings.warn(NOT_CALIBRATED, UncalibratedWarning, stacklevel=2)
            return module
        return calibrated(module, self._task, self._changed(architecture))

    def calibrate_on(self, task: Task) -> None:
        """Have the running statistics of every net measured on the task's training inputs, whatever `store` holds."""
        self._task, self.store.statistics_of = task, "several"

    def _copy(self, architecture: Architecture) -> nn.Module:
        module = self.space.build(architecture, "meta")
        skeleton = self.space.skeleton(architecture)
        constants = dict(skeleton.named_buffers()) | self._prepare(skeleton, architecture).constants
        parameters, buffers = self.parameters_of(architecture), {**constants, **self.buffers_of(architecture)}
        values, buffers = (
            {n: t.detach().clone() for n, t in self._in_first_order(each, architecture).items()}
            for each in (parameters, buffers)
        )
        named = {id(p): values[name] for name, p in module.named_parameters()}
        replace_parameters(module, lambda p: nn.Parameter(named[id(p)], p.requires_grad))
        for places, local, name in slots_of(module, buffers):
            places[local] = buffers[name]
        return module

    def _canonical(self, architecture: Mapping[str, GeneValue]) -> Architecture:
        """The caller's architecture, validated; the space's own (already seen) pass at once."""
        if isinstance(architecture, Architecture) and architecture in self._corners:
            return architecture
        return self.space.architecture(architecture)
