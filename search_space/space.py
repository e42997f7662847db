"""SearchSpace: a function from a trial to an ordinary `nn.Module`, and what can be learnt by running it."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from .architecture import Architecture, GeneValue
from .buffers import buffer_layouts
from .check import Finding, check
from .construction import Created, bytes_of, construct, materialised
from .discovery import Discovery, Sizes, discover
from .gene_space import GeneSpace
from .inputs import Inputs
from .layout import Layout, Rule, layouts_of
from .probe import Probe
from .quantization import Granularity, Quantization, canonical, policy_of, schemes_of
from .trial import Gene, RecordingTrial

LOG = logging.getLogger("nas.run")

SpaceFunction = Callable[[Any], nn.Module]
CACHED_SKELETONS, CACHED_BYTES = 128, 256 * 2**20
RANDOM_PROBES = 24
CONSTANTS_SEED = 1_234_577
"""Of skeletons: a constant that is drawn at random is the same in each of them."""


class _Skeleton(NamedTuple):
    module: nn.Module
    bytes: int  # of its constants


class SearchSpace(GeneSpace):
    """The space of nets that `function(trial)` can build.

    Genes are discovered by running the function on the meta device: with every number at its top, then once for every
    other alternative (and for smaller numbers, to see which genes and dimensions depend on them). `probes` keeps what
    was seen. The conditions under which a gene exists are learnt from those runs and verified on random ones. A
    function whose genes follow no such rule, or whose options depend on other genes, is run again for every walk:
    slower, and as exact.

    layouts: for modules that are not ours and stack axes in one dimension, pattern of parameter names -> factors
        (`{"*.c_attn.*": (3, -1)}`), see `layout.Rule`.
    example: an input of the nets, which gives lazy layers (`nn.LazyLinear`) their shapes: a tensor, a tuple of
        arguments, or a mapping of keywords. Its values do not matter.

    >>> space = nas.SearchSpace(function)
    >>> space.architecture({"width": 32, "deep": False})
    Architecture(...: {"deep":false,"width":32})
    >>> space.check(task.example)
    []
    """

    def __init__(
        self, function: SpaceFunction, *, layouts: Mapping[str, Rule] | None = None, example: Inputs | None = None
    ) -> None:
        super().__init__({})
        self.function = function if example is None else partial(materialised, function, example)
        self.layout_rules = dict(layouts or {})
        self._skeletons: OrderedDict[Architecture, _Skeleton] = OrderedDict()
        self._needs_values = False  # constructors read values, or nets hold constants: the meta device has neither
        self._sizes: Sizes = {}
        self._is_nested = False
        self.probes = self._discover()

    def __getstate__(self) -> dict[str, Any]:
        """Without skeletons, which are quicker made than sent."""
        return self.__dict__ | {"_skeletons": OrderedDict()}

    def walk(self, choose: Callable[[Gene], GeneValue]) -> Architecture:
        if self._ruled:
            return super().walk(choose)
        return self._run(choose)[1].architecture

    def architecture(self, choices: Mapping[str, GeneValue]) -> Architecture:
        return super().architecture(canonical(choices, self.genes))

    # Building

    def build(self, choices: Mapping[str, GeneValue], device: str = "cpu") -> nn.Module:
        """A new module of the architecture, initialised by its own code (on "meta": no values, real constants).

        Draws from torch's global generator, as any module does; `torch.random.fork_rng` leaves that alone.
        """
        architecture = self.architecture(choices)
        if device == "meta":
            return self._run(lambda gene: architecture[gene.name])[0]
        return construct(self.function, RecordingTrial(lambda gene: architecture[gene.name]), device)

    def skeleton(self, architecture: Architecture) -> nn.Module:
        """The module on the meta device, cached. Its parameters have no values; its buffers (constants) are real."""
        if architecture in self._skeletons:
            self._skeletons.move_to_end(architecture)
        else:
            choices = self.architecture(architecture)
            module, _, constants = self._run(lambda gene: choices[gene.name])
            self._skeletons[architecture] = _Skeleton(module, bytes_of([*constants, *module.buffers()]))
            while len(self._skeletons) > 1 and not self._cache_holds():
                self._skeletons.popitem(last=False)
        return self._skeletons[architecture].module

    def _cache_holds(self) -> bool:
        taken = sum(skeleton.bytes for skeleton in self._skeletons.values())
        return len(self._skeletons) <= CACHED_SKELETONS and taken <= CACHED_BYTES

    def layouts(self, module: nn.Module) -> dict[str, Layout]:
        """The layout of every parameter of a module of this space."""
        return layouts_of(module, self.layout_rules)

    def check(self, example: Inputs | None = None) -> list[Finding]:
        """Doubts about the nesting of the space (see `check.check`); none when every small net is part of a large one.

        example: an input of the nets: a tensor, a tuple of arguments, or a mapping of keywords.
        """
        return check(self, example)

    def require_nested(self, example: Inputs) -> None:
        """Error: a small net that is no part of a large one (see `check`), with the layout rule that fixes it.

        Where no rule does (layers whose names move with a depth, heads of a fixed width), nets share weights that are
        no parts of each other: they can be trained, and rank less surely; a warning is logged.
        What could not be compared passes. It is computed once for this object.
        """
        if self._is_nested:
            return
        doubts = [finding for finding in self.check(example) if finding.checked]
        for finding in doubts:
            if not finding.layouts:
                LOG.warning("Small nets are not parts of large ones: %s", finding.message)
        wrong = [finding for finding in doubts if finding.layouts]
        if wrong:
            more = f" ({len(wrong) - 1} more: space.check(example))" if len(wrong) > 1 else ""
            raise UserError(
                f"the nets of this space cannot share weights as it is: {wrong[0].message}{more}; to train it all the "
                "same: check=False, --no-check"
            )
        self._is_nested = True

    # Transforms

    def quantized(
        self,
        weights: Sequence[int] = (4, 8, 16),
        activations: Sequence[int] = (8, 16),
        *,
        granularity: Granularity = "block",
        keep: Sequence[str] = (),
        schemes: Sequence[str] | None = None,
    ) -> "SearchSpace":
        """This space with the bits of its parts as genes beside its own; its modules and parameters stay as they are.

        granularity, keep: see `Quantization`. schemes: the options, in the place of all pairs of weights and
        activations that make sense. A supernet of this space serves the other: names and shapes are the same.
        """
        texts = [scheme.text for scheme in schemes_of(weights, activations)] if schemes is None else schemes
        quantization = Quantization.read(texts, granularity, keep)
        suspects = sorted(self.probes, key=lambda probe: not probe.policy)  # the first nets decide nearly always
        quantization.check(self._run(lambda g, p=probe: p.architecture[g.name])[0] for probe in suspects)  # type: ignore[misc]

        def function(trial: Any) -> nn.Module:
            module = self.function(trial)
            quantization.ask(module, trial)
            return module

        result = SearchSpace(function, layouts=self.layout_rules)
        for requirement in self._requirements:
            result.require(requirement.predicate, requirement.message)
        return result

    def _run(self, choose: Callable[[Gene], GeneValue]) -> tuple[nn.Module, RecordingTrial, list[Tensor]]:
        """The net without values but its constants, the trial that it was built by, and the constants that it holds.

        On the meta device, which takes no time; for real, parameters being dropped afterwards, where a constructor
        reads the values of tensors or the net holds tensors that are no parameters.
        """
        if not self._needs_values:
            try:
                module, trial, constants = self._built(choose, "meta")
                if not any(t.is_meta for t in constants):
                    return module, trial, constants
            except UserError as error:
                if error.__cause__ is None:
                    raise  # ours; any other may be the meta device's
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(CONSTANTS_SEED)
            module, trial, constants = self._built(choose, "cpu")
        self._needs_values = True
        replace_parameters(module, lambda p: nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad))
        return module, trial, constants

    def _built(
        self, choose: Callable[[Gene], GeneValue], device: str
    ) -> tuple[nn.Module, RecordingTrial, list[Tensor]]:
        trial = RecordingTrial(choose)
        with Created() as created:
            module = construct(self.function, trial, device)
        return module, trial, created.constants_of(module)

    # Discovery

    def probe(self, choices: Mapping[str, GeneValue]) -> Probe:
        """Run the function with `choices`; what they leave open takes its top."""

        def choose(gene: Gene) -> GeneValue:
            value = choices.get(gene.name, gene.top)
            return value if value in gene.options else gene.top

        return self._probe(choose)

    def _probe(self, choose: Callable[[Gene], GeneValue]) -> Probe:
        module, trial, _ = self._run(choose)
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        layouts = self.layouts(module)
        buffers = buffer_layouts(module, layouts)
        return Probe(trial.architecture, trial.genes, shapes, layouts, policy_of(module), buffers)

    def _discover(self) -> tuple[Probe, ...]:
        result, rng = discover(self.probe), np.random.default_rng(0)
        drawn = [self._probe(lambda g: g.options[int(rng.integers(len(g.options)))]) for _ in range(RANDOM_PROBES)]
        self._learn(result, drawn)
        if result.copied and not self._ruled:  # the layers may be less alike than they look
            result = discover(self.probe, copy=False)
            self._learn(result, drawn)
        return (*result.probes, *drawn)

    def _learn(self, found: Discovery, drawn: Sequence[Probe]) -> None:
        """If the probes contradict what was discovered, walk by running the function from now on."""
        self.genes, self._conditions, self._sizes, self._ruled = found.genes, found.conditions, found.sizes, True
        for probe in (*found.probes, *drawn):
            foreseen = all(self.genes.get(name) == gene for name, gene in probe.genes.items()) and (
                super().walk(lambda g, p=probe: p.architecture.get(g.name, g.top)) == probe.architecture  # type: ignore[misc]
            )
            if not foreseen:
                self._ruled, self._conditions = False, {}
                for gene in probe.genes.values():
                    self.genes[gene.name] = _united(self.genes.get(gene.name, gene), gene)

    def _extreme_option(self, gene: Gene, large: bool) -> GeneValue:
        if gene.nested:
            return gene.options[-1 if large else 0]
        sizes = self._sizes.get(gene.name, {})
        return (max if large else min)(gene.options, key=lambda o: sizes.get(o, ()))


def _united(a: Gene, b: Gene) -> Gene:
    options = tuple(dict.fromkeys((*a.options, *b.options)))
    return Gene(a.name, tuple(sorted(options)) if a.nested else options, a.nested)  # type: ignore[type-var]


def replace_parameters(root: nn.Module, make: Callable[[nn.Parameter], nn.Parameter]) -> None:
    """Replace every parameter in place by `make(parameter)`; tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    for module in root.modules():
        for local, parameter in list(module.named_parameters(recurse=False)):
            made.setdefault(id(parameter), make(parameter))
            setattr(module, local, made[id(parameter)])
