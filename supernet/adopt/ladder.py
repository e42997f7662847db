"""Nets to start a search from: single replacements in the largest net, scored and combined, again from each result."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ...errors import UserError, check_least
from ...files import read_json, write_json
from ...search_space.architecture import Architecture, GeneValue
from ...search_space.paths import group_of, kind_of
from ...search_space.space import SearchSpace
from ...tasks import Task
from ..store import Supernet
from .calibration import Calibration
from .importance import Progress
from .programme import Replacement, cheapest

KEPT = "replacements.json"
FRACTIONS = tuple(round(1 - 0.025 * i, 3) for i in range(1, 21))
Cost = Callable[[Architecture], float]
Change = tuple[tuple[str, GeneValue], ...]
"""Genes and their other options."""


@dataclass(frozen=True)
class Rung:
    """A net, its loss on the calibration samples, and its cost."""

    architecture: Architecture
    loss: float
    cost: float


def ladder(
    supernet: Supernet,
    task: Task,
    *,
    cost: Cost | None = None,
    fractions: Sequence[float] = FRACTIONS,
    samples: int = 16,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> list[Rung]:
    """Ever smaller nets of a trained supernet, each with the least loss that single replacements foresee.

    Every replacement in the largest net is scored: a gene at each smaller option, and all genes of a layer at their
    smallest, by the loss on training samples. An integer programme combines them to a net that costs the first
    fraction; what it picks was scored in another net, and is scored anew in this one until it picks nothing else. The
    next, smaller net is found likewise from there. So what does not add up is corrected at each step.
    cost: of a net; None: its parameters, without those that no gene changes (embeddings). fractions: of the cost of the
    largest net, in descending order. samples: of the training split; of too few, what is picked is luck.
    folder: losses are kept there, in replacements.json, as they are measured; the same call goes on from it.
    progress: called as `progress(stage, done, total, None)`.
    Sort the supernet first (`nas.sort_by_importance`). Give the nets to a search as `start`. Returns the largest net
    and one for each fraction that the space can reach.

    >>> rungs = nas.ladder(supernet, task, fractions=[0.75, 0.5])
    >>> [rung.cost <= rungs[0].cost * fraction for rung, fraction in zip(rungs, [1, 0.75, 0.5])]
    [True, True, True]
    """
    check_least(1, samples=samples)
    if list(fractions) != sorted(fractions, reverse=True) or not all(0 < f < 1 for f in fractions):
        raise UserError(f"fractions must descend between 1 and 0, as in 0.9,0.8; got {', '.join(map(str, fractions))}")
    losses = Losses(Calibration(supernet, task, samples), None if folder is None else Path(folder) / KEPT)
    space, count = supernet.space, cost or counted(supernet.space)
    costs = _Costs(space, count)
    largest = space.largest
    losses.start_from(largest)
    scores: dict[Change, float] = {}
    changes = list(_changes(space, largest))
    for done, change in enumerate(changes):
        scores[change] = losses.of(_changed(space, largest, change)) - losses.base
        if progress is not None:
            progress("Scoring replacements", done + 1, len(changes), None)
    rungs = [Rung(largest, losses.base, count(largest))]
    for done, fraction in enumerate(fractions):
        next_ = _below(rungs[-1], fraction * rungs[0].cost, scores, losses, costs)
        if next_ is None:
            break
        rungs.append(next_)
        if progress is not None:
            progress("Combining replacements", done + 1, len(fractions), None)
    losses.keep()
    return rungs


def _below(rung: Rung, budget: float, scores: dict[Change, float], losses: "Losses", costs: "_Costs") -> Rung | None:
    """The net from `rung` on that costs at most `budget`; the scores in it take the place of those in another."""
    space, base, fresh = costs.space, rung.architecture, set[Change]()
    losses.start_from(base)
    saving = rung.cost - budget
    while True:
        open_ = [change for change in scores if _is_change(base, change)]
        parts = [Replacement(dict(change), max(scores[change], 0.0), costs.of(base, change)) for change in open_]
        picked = cheapest(parts, saving)
        if picked is None:
            return None
        stale = [change for part in picked if (change := tuple(part.genes.items())) not in fresh]
        for change in stale:
            scores[change] = losses.of(_changed(space, base, change)) - losses.base
        fresh |= set(stale)
        if stale:
            continue
        chosen = _changed(space, base, tuple(item for part in picked for item in part.genes.items()))
        if (spent := costs.count(chosen)) <= budget or not picked:
            return Rung(chosen, losses.of(chosen), spent)
        saving += spent - budget  # costs do not add up exactly either


def _changes(space: SearchSpace, base: Architecture) -> Iterator[Change]:
    """Every gene at each smaller option, and all genes of a layer at their smallest."""
    layers: dict[tuple[str | int, ...], list[str]] = {}
    for name in base:
        gene = space.genes[name]
        if gene.nested and len(gene.options) > 1:
            layers.setdefault(group_of(gene.path), []).append(name)
            yield from (((name, option),) for option in gene.options[:-1])
    for group, names in layers.items():
        smallest = tuple((name, space.genes[name].options[0]) for name in names)
        present = tuple(item for item in smallest if item[0] in _changed(space, base, smallest))
        if len(present) > 1 and group:
            yield present


def _is_change(base: Architecture, change: Change) -> bool:
    """Whether it makes something smaller and nothing larger."""
    pairs = [(base[name], option) for name, option in change if name in base]
    return any(now != option for now, option in pairs) and all(option <= now for now, option in pairs)  # type: ignore[operator]


def _changed(space: SearchSpace, base: Architecture, change: Change) -> Architecture:
    new = dict(change)
    return space.walk(lambda gene: new.get(gene.name, base.get(gene.name, gene.top)))


def counted(space: SearchSpace) -> Cost:
    """Parameters of a net, without those that are the same in all nets."""
    shapes: dict[str, set[tuple[int, ...] | None]] = {}
    for probe in space.probes:
        for name in {*shapes, *probe.shapes}:
            shapes.setdefault(name, set()).add(probe.shapes.get(name))
    fixed = {name for name, seen in shapes.items() if len(seen) == 1}

    def count(architecture: Architecture) -> float:
        skeleton = space.skeleton(architecture)
        return float(sum(prod(p.shape) for name, p in skeleton.named_parameters() if name not in fixed))

    return count


class _Costs:
    """What changes add to the cost: of layers that are alike, one is looked at."""

    def __init__(self, space: SearchSpace, count: Cost) -> None:
        self.space, self.count = space, count
        self._known: dict[tuple[object, ...], float] = {}

    def of(self, base: Architecture, change: Change) -> float:
        groups = {group_of(self.space.genes[name].path) for name, _ in change}
        around = [(kind_of(n), v) for n, v in base.items() if group_of(self.space.genes[n].path) in groups]
        key = (*around, *((kind_of(name), option) for name, option in change))
        if key not in self._known:
            self._known[key] = self.count(_changed(self.space, base, change)) - self.count(base)
        return self._known[key]


class Losses:
    """Losses of nets by their ids, kept in a file; a net is computed from `start_from`'s layers on."""

    def __init__(self, calibration: Calibration, path: Path | None) -> None:
        self.calibration, self.path = calibration, path
        kept = read_json(path, "losses of replacements") if path and path.exists() else {}
        self.known: dict[str, float] = kept["losses"] if kept.get("of") == calibration.identity else {}
        self._base: Architecture | None = None
        self._is_ready = False

    @property
    def base(self) -> float:
        """Of the net that others are compared with."""
        assert self._base is not None
        return self.of(self._base)

    def start_from(self, base: Architecture) -> None:
        self._base, self._is_ready = base, False

    def of(self, net: Architecture) -> float:
        if net.id not in self.known:
            if not self._is_ready and self._base is not None:
                self.known[self._base.id] = self.calibration.start_from(self._base)
                self._is_ready = True
            if net.id not in self.known:
                self.known[net.id] = self.calibration.loss(net)
            self.keep()
        return self.known[net.id]

    def keep(self) -> None:
        if self.path is not None:
            write_json(self.path, {"of": self.calibration.identity, "losses": self.known})
