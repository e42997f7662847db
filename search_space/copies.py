"""Layers that are alike, tried together: what one of them does under an option, the others do under their own numbers.

Genes whose names differ in one number, with the same options, are a family (`layers.#.mixer`). Instead of one net for
each member and option there is one for each option, in which all members take it but one. If all that changes belongs
to those members (by the numbers in the names of genes and parameters) and is the same for each of them, what a single
member changes is known. The member that was left out takes part in nets of another kind, in which every member has
another option (`hold`); there, too, everything must be as foreseen. Where it is not, each member is tried by itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .architecture import Architecture, GeneValue
from .probe import Probe
from .trial import Gene

Flips = tuple[tuple[str, GeneValue], ...]
"""Genes and what they take, one after the other: later ones exist only beside the earlier."""
Facts = dict[str, Any]
FEWEST = 3
"""Members of a family; of two, one is left out, and there is nothing to compare the other with."""
PLACES = [(place, shift) for place in (0, 1, 2) for shift in (0, 1, -1)]
"""Where a parameter's name has the number of its layer, and how far that is from the number in the gene's name."""
NUMBER = re.compile(r"\d+")


class Place(NamedTuple):
    """Which of the numbers in a name is the layer's, counted from 0, and how much it is more than the gene's."""

    at: int
    shift: int = 0

    def of(self, name: str) -> tuple[int, str] | None:
        """The layer of a name, and the name with a mark in its place; None: of no layer."""
        results = list(NUMBER.finditer(name))
        if len(results) <= self.at:
            return None
        digits = results[self.at]
        return int(digits[0]) - self.shift, f"{name[: digits.start()]}#{name[digits.end() :]}"

    def name(self, mark: str, layer: int) -> str:
        return mark.replace("#", str(layer + self.shift), 1)


class Family(NamedTuple):
    """Genes of one name but for a number: the numbers, and where the number is."""

    layers: tuple[int, ...]
    place: Place


class Effect(NamedTuple):
    """What flips change in any layer of a family, by names with marks, for each kind of facts.

    changed: new values, `MISSING` for what is gone. order: all names, of any layer (no marks), in the order of asking.
    left_out: the layer that was not tried.
    """

    family: Family
    left_out: int
    places: tuple[Place, ...]
    changed: tuple[Facts, ...]
    order: tuple[list[str], ...]


MISSING = object()


def facts_of(probe: Probe) -> tuple[Facts, ...]:
    """All that a probe shows; of a gene without its name."""
    genes = {name: (gene.options, gene.nested) for name, gene in probe.genes.items()}
    return genes, dict(probe.architecture), *map(dict, (probe.shapes, probe.layouts, probe.policy, probe.buffers))


def _probe_of(facts: Sequence[Facts]) -> Probe:
    genes, values, shapes, layouts, policy, buffers = facts
    named = {name: Gene(name, *options) for name, options in genes.items()}
    return Probe(Architecture(values), named, shapes, layouts, policy, buffers)


class Copies:
    """What single flips show, as far as nets in which many layers flip at once let it be foreseen."""

    def __init__(self, base: Probe, run: Callable[[Mapping[str, GeneValue]], Probe]) -> None:
        self.base, self._run = base, run
        self._facts = facts_of(base)
        self._families = dict(_families(base.genes))
        self._effects: dict[tuple[tuple[str, GeneValue], ...], Effect | None] = {}

    @property
    def used(self) -> bool:
        return any(self._effects.values())

    def probe(self, flips: Flips) -> Probe | None:
        """What is seen after the flips of one layer's genes; None where only running the function tells."""
        family = self._families.get(flips[0][0])
        split = [family.place.of(name) for name, _ in flips] if family else []
        if family is None or any(s is None or s[0] != split[0][0] for s in split):  # type: ignore[index]
            return None
        marks = tuple((s[1], option) for s, (_, option) in zip(split, flips, strict=True) if s)
        if marks not in self._effects:
            self._effects[marks] = self._effect(family, marks)
        effect = self._effects[marks]
        return None if effect is None else _probe_of(_applied(self._facts, effect, split[0][0]))  # type: ignore[index]

    def _effect(self, family: Family, marks: Flips) -> Effect | None:
        """Of flips in all layers but one, if each of them does the same and to itself alone."""
        out = len(self._effects) % len(family.layers)
        layers = [*family.layers[:out], *family.layers[out + 1 :]]
        try:
            joint = self._run(self._choices({family.place.name(m, i): o for i in layers for m, o in marks}))
        except UserError:
            return None
        if any(joint.architecture.get(family.place.name(m, i)) != o for i in layers for m, o in marks):
            return None
        facts = facts_of(joint)
        changes = [_changes(*pair) for pair in zip(self._facts, facts, strict=True)]
        for place in (Place(*p) for p in PLACES):
            places = (family.place, family.place, *4 * (place,))
            one = [_of_one(*pair, layers) for pair in zip(changes, places, strict=True)]
            if None not in one:
                orders = tuple(map(_order, self._facts, facts, places, (family.layers,) * 6, (out,) * 6))
                effect = Effect(family, family.layers[out], places, tuple(one), orders)  # type: ignore[arg-type]
                return effect if _is_placed(self._facts, facts, effect, layers) else None
        return None

    def _choices(self, flips: Mapping[str, GeneValue]) -> dict[str, GeneValue]:
        return {**self.base.architecture, **flips}

    # Verification

    def hold(self) -> bool:
        """Whether nets in which the layers of a family flip in different ways show what was concluded.

        First each layer has flips that it was left out of before, so that every layer has been built with every option;
        then any.
        """
        rng = np.random.default_rng(0)
        known = [(marks, effect) for marks, effect in self._effects.items() if effect is not None]
        for family in dict.fromkeys(effect.family for _, effect in known):
            own = [(marks, effect) for marks, effect in known if effect.family == family]
            if not all(self._is_foreseen(net) for net in self._mixed(family, own, rng)):
                return False
        return True

    def _mixed(
        self, family: Family, own: list[tuple[Flips, Effect]], rng: np.random.Generator
    ) -> Iterator[dict[int, tuple[Flips, Effect]]]:
        waiting = {i: [one for one in own if one[1].left_out == i] for i in family.layers}
        while any(waiting.values()):
            yield {i: ones.pop() for i, ones in waiting.items() if ones}
        shuffled = [own[int(k)] for k in rng.permutation(len(own))]
        for start in range(0, len(shuffled), len(family.layers)):
            part = shuffled[start : start + len(family.layers)]
            layers = rng.permutation(len(family.layers))[: len(part)]
            yield {family.layers[int(i)]: one for i, one in zip(layers, part, strict=True)}

    def _is_foreseen(self, net: Mapping[int, tuple[Flips, Effect]]) -> bool:
        flips = {e.family.place.name(m, i): o for i, (marks, e) in net.items() for m, o in marks}
        foreseen = self._facts
        for layer, (_, effect) in net.items():
            foreseen = _applied(foreseen, effect, layer)
        try:
            return facts_of(self._run(self._choices(flips))) == foreseen
        except UserError:
            return False


def _families(genes: Mapping[str, Gene]) -> Iterator[tuple[str, Family]]:
    """The family of each gene that has one: the largest, if several of its numbers make one."""
    groups: dict[tuple[int, str, tuple[GeneValue, ...], bool], list[tuple[int, str]]] = {}
    for name, gene in genes.items():
        for at in range(len(NUMBER.findall(name))):
            layer, mark = Place(at).of(name) or (0, "")
            groups.setdefault((at, mark, gene.options, gene.nested), []).append((layer, name))
    for (at, *_), members in sorted(groups.items(), key=lambda item: len(item[1])):
        if len(members) >= FEWEST:
            family = Family(tuple(layer for layer, _ in members), Place(at))
            yield from ((name, family) for _, name in members)


def _changes(before: Facts, after: Facts) -> Facts:
    gone = dict.fromkeys(before.keys() - after.keys(), MISSING)
    return gone | {n: v for n, v in after.items() if n not in before or before[n] != v}


def _of_one(changes: Facts, place: Place, layers: Sequence[int]) -> Facts | None:
    """The changes of each layer, if they are all alike, and those of these layers only."""
    own: dict[int, Facts] = {i: {} for i in layers}
    for name, value in changes.items():
        split = place.of(name)
        if split is None or split[0] not in own or place.name(split[1], split[0]) != name:
            return None
        own[split[0]][split[1]] = value
    first, *others = own.values()
    return first if all(other == first for other in others) else None


def _order(before: Facts, after: Facts, place: Place, layers: Sequence[int], out: int) -> list[str]:
    """All names of both nets in one order, and those that flips in the layer that was left out would add."""
    names, previous = list(after), ""
    for name in before:
        if name not in after:
            names.insert(_place_of(name, previous, names, before, place), name)
        previous = name
    own, beside = layers[out], layers[out + 1 if out + 1 < len(layers) else out - 1]

    def moved(name: str) -> str:
        """The name of the layer left out for one of the layer beside it; "" of others."""
        split = place.of(name)
        return place.name(split[1], own) if split and split[0] == beside else ""

    for run in _runs(names, lambda name: name not in before and bool(moved(name))):
        start, end = names.index(run[0]), names.index(run[-1]) + 1
        left, right = (moved(n[0]) if n else "" for n in (names[max(0, start - 1) : start], names[end : end + 1]))
        at = start if beside > own else end
        if left in names:
            at = names.index(left) + 1
        elif right in names:
            at = names.index(right)
        names[at:at] = map(moved, run)
    return names


def _place_of(name: str, previous: str, names: Sequence[str], before: Facts, place: Place) -> int:
    """Where a name stood that is gone: behind the one before it, or where its layer has something new instead."""
    layer = place.of(name)
    if layer is not None and (place.of(previous) or (None,))[0] != layer[0]:
        new = (at for at, n in enumerate(names) if n not in before and (place.of(n) or (None,))[0] == layer[0])
        return next(new, names.index(previous) + 1 if previous else 0)
    return names.index(previous) + 1 if previous else 0


def _runs(names: Sequence[str], is_one: Callable[[str], bool]) -> list[list[str]]:
    """Those names that stand side by side."""
    return [list(run) for ours, run in groupby(names, is_one) if ours]


def _applied(facts: tuple[Facts, ...], effect: Effect, layer: int) -> tuple[Facts, ...]:
    """The facts with what the flips change in a layer."""
    return tuple(map(_changed, facts, effect.changed, effect.order, effect.places, (layer,) * len(facts)))


def _changed(facts: Facts, changed: Facts, order: Sequence[str], place: Place, layer: int) -> Facts:
    if not changed:
        return facts
    own = {place.name(mark, layer): value for mark, value in changed.items()}
    results = {n: own.get(n, v) for n, v in facts.items() if own.get(n) is not MISSING}
    new = {n: v for n, v in own.items() if v is not MISSING and n not in facts}
    return _inserted(results, new, order) if new else results


def _inserted(facts: Facts, new: Facts, order: Sequence[str]) -> Facts:
    """With new facts, each behind the last one that comes before it in `order`."""
    names, at = list(facts), 0
    for name in order:
        if name in new:
            names.insert(at, name)
            at += 1
        elif name in facts:
            at = names.index(name) + 1
    return {name: new[name] if name in new else facts[name] for name in names}


def _is_placed(before: tuple[Facts, ...], after: tuple[Facts, ...], effect: Effect, layers: Sequence[int]) -> bool:
    """Whether the flips in all these layers give the joint net, in its order."""
    for layer in layers:
        before = _applied(before, effect, layer)
    return all(list(a.items()) == list(b.items()) for a, b in zip(before, after, strict=True))
