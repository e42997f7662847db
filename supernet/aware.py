"""What quantization-aware training (`quantize.learned`) needs of a supernet: first steps, and nets of all policies."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from ..errors import UserError
from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from ..search_space.inputs import map_tensors
from ..search_space.quantization import Scheme, policy_genes
from ..search_space.space import SearchSpace
from ..tasks import Task
from .quantize.learned import first_steps, is_few
from .quantize.post_training import SAMPLES
from .sampling import Pass
from .store import Supernet


def start_qat(supernet: Supernet, task: Task | None) -> None:
    """Give the supernet a step for every way to round a part of its nets; known ones stay. No task: take all away.

    Error: its nets have nothing that is rounded to few bits.
    """
    if task is None:
        supernet.steps = nn.ParameterDict()
        return
    results = {key: step.detach() for key, step in supernet.steps.items()}
    device = next(supernet.store.parameters()).device
    schemes, inputs = _few(supernet.space), map_tensors(lambda t: t.to(device), task.calibration_inputs(SAMPLES))
    for net in _showing(supernet.space, schemes):
        results |= first_steps(supernet.extract(net, task), inputs, schemes, results)
    if not results:
        raise UserError(
            "qat has nothing to learn: no net of the space has weights or activations of fewer than 8 bits; "
            "quantize the space to some, as in space.quantized(schemes=['w8a8', 'w2a8']), or leave qat out"
        )
    supernet.steps = nn.ParameterDict({key: nn.Parameter(step.to(device, copy=True)) for key, step in results.items()})


def _few(space: SearchSpace) -> list[Scheme]:
    """The schemes of the space that have steps, those of the fewest activations first."""
    options = {option for gene in policy_genes(space.genes) for option in space.genes[gene].options}
    schemes = [Scheme.parse(text) for text in sorted(map(str, options))]
    return sorted(filter(is_few, schemes), key=lambda scheme: scheme.activations)


def _showing(space: SearchSpace, schemes: Sequence[Scheme]) -> Iterator[Architecture]:
    """Nets of the first scheme that together have every module of the space."""
    seen: set[tuple[str, type[nn.Module]]] = set()
    for probe in space.probes if schemes else ():
        modules = {(name, type(module)) for name, module in space.skeleton(probe.architecture).named_modules()}
        if not modules <= seen:
            policy = dict.fromkeys(policy_genes(probe.architecture), schemes[0].text)
            yield space.architecture({**probe.architecture, **policy})
        seen |= modules


def every_policy(passes: Sequence[Pass], space: GeneSpace, rng: np.random.Generator) -> list[Pass]:
    """The passes with drawn policies; what others distil from stays as it is, and runs once more with one drawn.

    As they come, the largest net would only ever meet the most bits and the smallest the fewest.
    """
    first, *others = passes
    if any(one.distils for one in others):
        return [first, *(_drawn(one, space, rng) for one in (replace(first, distils=True), *others))]
    return [_drawn(one, space, rng) for one in passes]


def _drawn(one: Pass, space: GeneSpace, rng: np.random.Generator) -> Pass:
    """One scheme everywhere, or one for each gene."""
    genes = policy_genes(one.architecture)
    drawn = {gene: space.genes[gene].options[rng.integers(len(space.genes[gene].options))] for gene in genes}
    if genes and rng.random() < 0.5:
        drawn = dict.fromkeys(genes, drawn[genes[0]])
    return replace(one, architecture=space.architecture({**one.architecture, **drawn}))
