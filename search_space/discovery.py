"""Which genes a space function asks for, and when: every alternative of every gene is tried once."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .architecture import GeneValue
from .copies import Copies, Flips
from .probe import Probe
from .trial import Gene

Run = Callable[[Mapping[str, GeneValue]], Probe]
"""Runs the space function with these choices; what they leave open takes its top."""
Sizes = dict[str, dict[GeneValue, tuple[int, ...]]]


class Discovery(NamedTuple):
    """genes: in the order of asking. conditions: see `conditions.Conditions`. sizes: of the net, for each option.

    probes: what was seen. copied: whether some of it was concluded from layers that are alike (see `copies`).
    """

    genes: dict[str, Gene]
    conditions: dict[str, dict[str, frozenset[GeneValue]]]
    sizes: Sizes
    probes: list[Probe]
    copied: bool


def discover(run: Run, *, copy: bool = True) -> Discovery:
    """Run the function with every number at its top, then once for every other alternative of every gene.

    Smaller numbers are tried, too, to see which genes and dimensions depend on them. copy: layers that are alike are
    tried together; where what they show contradicts what was concluded, all is tried again one by one.
    """
    base = run({})
    copies = Copies(base, run) if copy else None
    result = _discover(run, base, copies)
    return result if copies is None or copies.hold() else _discover(run, base, None)


def _discover(run: Run, base: Probe, copies: Copies | None) -> Discovery:
    probes, known = [base], dict(base.genes)
    conditions: dict[str, dict[str, frozenset[GeneValue]]] = {}
    sizes: Sizes = {}
    queue: deque[tuple[Gene, Probe, Flips]] = deque((gene, base, ()) for gene in base.genes.values())
    while queue:
        gene, context, before = queue.popleft()
        sizes[gene.name] = {context.architecture[gene.name]: context.size}
        for option in _others(gene, context.architecture[gene.name]):
            flips = (*before, (gene.name, option))
            probe = copies.probe(flips) if copies else None
            probe = probe or run({**context.architecture, gene.name: option})
            probes.append(probe)
            sizes[gene.name][option] = probe.size
            _learn(gene, option, context, probe, conditions)
            new = [g for name, g in probe.genes.items() if name not in known]
            known.update({g.name: g for g in new})
            queue.extend((g, probe, flips) for g in new)
            if gene.nested and probe.genes.keys() == context.genes.keys():
                break  # the smallest number changes no gene: those between will not either (random probes verify)
    return Discovery(known, conditions, sizes, probes, copies is not None and copies.used)


def _others(gene: Gene, value: GeneValue) -> list[GeneValue]:
    """The other options; of a nested gene the smallest first."""
    return [o for o in gene.options if o != value]


def _learn(
    gene: Gene, option: GeneValue, context: Probe, probe: Probe, conditions: dict[str, dict[str, frozenset[GeneValue]]]
) -> None:
    """From one flip of `gene`: the genes that it hid do not go with `option`, those that it showed do."""
    for hidden in context.genes.keys() - probe.genes.keys():
        allowed = conditions.setdefault(hidden, {}).get(gene.name, frozenset(gene.options))
        conditions[hidden][gene.name] = allowed - {option}
    for shown in probe.genes.keys() - context.genes.keys():
        allowed = conditions.setdefault(shown, {}).get(gene.name, frozenset())
        conditions[shown][gene.name] = allowed | {option}
