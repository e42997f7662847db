"""A layout rule that fixes a pair of nets: guesses, each tried by the mask test before it is proposed."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice

from ...errors import UserError
from ..corner import fits
from ..layout import DimRule, Layout, apply_rule, segments_of
from ..paths import kind_of, path_of
from .judge import Fault, break_index
from .mask import Pair, mask_error
from .nets import Net, run

Place = tuple[str, int]
"""A parameter and one of its dimensions."""
Guess = Mapping[Place, DimRule]
Sizes = Mapping[Place, tuple[int, int]]
MOST_ROUNDS = 3
MOST_GUESSES = 100
FACTORS = (3, 2, 4, 6, 8, 5)


def propose(fault: Fault) -> dict[str, dict[int, DimRule]] | None:
    """Rules by pattern of names under which the small net is a sub-network of the large one; None if none is known.

    The first guess that lets the nets agree up to a later layer is kept, and the next one is made on top of it.
    """
    if fault.what != "moved":
        return None
    pair, chosen = fault.pair, dict[Place, DimRule]()
    reached = _reached(pair)
    for _ in range(MOST_ROUNDS):
        for guess in islice(_guesses(_ruled(pair, chosen) or pair, chosen, fault.parameter), MOST_GUESSES):
            far = _reached(_ruled(pair, {**chosen, **guess}))
            if far > reached:
                chosen.update(guess)
                reached = far
                break
        else:
            return None
        if reached == float("inf"):
            return _confirmed(pair, _rules(pair, chosen))
    return None


def _reached(pair: Pair | None) -> float:
    """How many calls of layers the masked net agrees with the small one; infinity if the outputs agree as well."""
    if pair is None:
        return -1
    small = run(pair.small, pair.small_values(), pair.inputs)
    error, large = mask_error(pair, small, quick=not pair.absent)
    at = break_index(pair, small, large)
    return float("inf") if error < pair.tolerance else len(small.calls) if at is None else at


def _ruled(pair: Pair, guess: Guess) -> Pair | None:
    """The pair under a guess; None where that divides nothing or does not nest."""
    try:
        large, small = (_layouts(net, guess) for net in (pair.large, pair.small))
    except UserError:
        return None
    return pair.with_layouts(large, small) if all(fits(small[n], large[n]) for n in pair.shared) else None


def _layouts(net: Net, guess: Guess) -> dict[str, Layout]:
    layouts, parameters = dict(net.layouts), dict(net.module.named_parameters())
    for (name, dim), rule in guess.items():
        layouts[name] = apply_rule(name, parameters[name].shape, {dim: rule}, layouts[name])
    return layouts


def _guesses(pair: Pair, chosen: Guess, broken: str | None) -> Iterator[Guess]:
    """The nearer to the layer that was `broken`, the earlier."""
    sizes = _sizes(pair)
    order = {name: i for i, name in enumerate(pair.shared)}
    at = order.get(broken or "", len(order))
    groups = sorted(_groups(pair, sizes), key=lambda group: min(abs(order[n] - at) for n, _ in group))
    for group in groups:
        for factor in _factors(sizes, sizes[group[0]]):
            yield {place: _extended(chosen.get(place), factor) for place in group}
    yield from _attentions(pair, sizes)
    yield from _concatenations(sizes)


def _sizes(pair: Pair) -> dict[Place, tuple[int, int]]:
    """Every dimension that differs, and its sizes in the large and the small net."""
    large, small = (dict(net.module.named_parameters()) for net in (pair.large, pair.small))
    shapes = {name: zip(large[name].shape, small[name].shape, strict=True) for name in pair.moved}
    return {(name, d): (a, b) for name, dims in shapes.items() for d, (a, b) in enumerate(dims) if a != b}


def _groups(pair: Pair, sizes: Sizes) -> Iterator[list[Place]]:
    """Dimensions that get one rule: of a weight and its bias in all layers of a kind, of the weight alone, of norms."""
    for mark in dict.fromkeys(_mark(pair, p) for p in sizes):
        alike = [p for p in sizes if _mark(pair, p) == mark]
        if _rank(pair, alike[0][0]) == 1:
            owners = {_owner(p) for p in alike}
            yield [p for p in sizes if _owner(p) in owners and _rank(pair, p[0]) == 1]
            continue
        biases = _biases(pair, sizes, alike)
        if biases:
            yield alike + biases
        yield alike


def _biases(pair: Pair, sizes: Sizes, places: Sequence[Place]) -> list[Place]:
    """The vectors beside the weights that have the sizes of those dimensions."""
    owners = {_owner(p): sizes[p] for p in places}
    return [p for p in sizes if _rank(pair, p[0]) == 1 and owners.get(_owner(p)) == sizes[p]]


def _mark(pair: Pair, place: Place) -> object:
    """The same for a dimension of one parameter in all layers that look alike."""
    name, dim = place
    return kind_of(name), dim, pair.values[name].shape


def _owner(place: Place) -> str:
    return place[0].rpartition(".")[0]


def _rank(pair: Pair, name: str) -> int:
    return len(pair.large.layouts[name])


def _factors(sizes: Sizes, of: tuple[int, int]) -> list[int]:
    """How many parts the sizes may have: a few, or as many as the sizes are multiples of others that differ."""
    multiples = (of[0] // a for a, b in sizes.values() if of[0] % a == 0 and of[0] * b == of[1] * a)
    return [k for k in dict.fromkeys((*FACTORS, *multiples)) if k > 1 and of[0] % k == 0 and of[1] % k == 0]


def _extended(rule: DimRule | None, factor: int) -> DimRule:
    parts = () if rule is None or len(segments_of(rule)) > 1 else tuple(segments_of(rule)[0][:-1])
    return (*parts, factor, -1)


def _attentions(pair: Pair, sizes: Sizes) -> Iterator[Guess]:
    """One number of heads or groups in a whole block: the rows of its layers and the columns of the last one."""
    for block in dict.fromkeys(name for p in sizes for name in (_owner(p), _owner(p).rpartition(".")[0])):
        inside = [p for p in sizes if block in (_owner(p), _owner(p).rpartition(".")[0]) and _rank(pair, p[0]) > 1]
        columns = [p for p in inside if p[1] == 1]
        if not columns:
            continue
        last, width = _owner(columns[-1]), sizes[columns[-1]]
        marks = {_mark(pair, p) for p in inside if p[1] == 0 and _owner(p) != last}
        rows = [p for p in sizes if _mark(pair, p) in marks]
        parts = {p: sizes[p][0] // width[0] for p in rows if sizes[p][0] * width[1] == sizes[p][1] * width[0]}
        parts = {p: n for p, n in parts.items() if n}
        parts |= {b: parts[p] for p in list(parts) for b in _biases(pair, sizes, [p])}
        ends = [p for p in sizes if _mark(pair, p) == _mark(pair, columns[-1])]
        for heads in (*FACTORS, 12, 16) if parts else ():
            rules = {p: (n, heads, -1) if n > 1 else (heads, -1) for p, n in parts.items()}
            yield {**rules, **dict.fromkeys(ends, (heads, -1))}


def _concatenations(sizes: Sizes) -> Iterator[Guess]:
    """Parts that stay beside parts that shrink: a fixed stem and layers of a growth, or a stem that shrinks."""
    for part, less in sorted(set(sizes.values())):
        beside: dict[int, dict[Place, tuple[DimRule, DimRule]]] = {}
        for place, (a, b) in sizes.items():
            count, left = divmod(a - b, part - less)
            fixed = a - count * part
            if not left and count and fixed > 0:
                shrinks = (-1,) if count == 1 else (count, -1)
                beside.setdefault(fixed, {})[place] = ([(fixed,), shrinks], [shrinks, (fixed,)])
        for behind in (0, 1):
            for group in beside.values():
                yield {place: rules[behind] for place, rules in group.items()}
            yield {place: rules[behind] for group in beside.values() for place, rules in group.items()}


def _rules(pair: Pair, chosen: Guess) -> dict[str, dict[int, DimRule]]:
    """The guess as a user writes it: patterns of names for all layers of a kind that agree."""
    rules: dict[str, dict[int, DimRule]] = {}
    for (name, dim), rule in chosen.items():
        alike = [r for place, r in chosen.items() if _mark(pair, place) == _mark(pair, (name, dim))]
        pattern = _pattern(name) if len(alike) > 1 and all(r == rule for r in alike) else name
        rules.setdefault(pattern, {})[dim] = rule
    return rules


def _pattern(name: str) -> str:
    return ".".join("*" if isinstance(part, int) else part for part in path_of(name))


def _confirmed(pair: Pair, rules: dict[str, dict[int, DimRule]]) -> dict[str, dict[int, DimRule]] | None:
    """The rules, if the pair agrees under them as they are written."""
    guess = {
        (name, dim): rule
        for name in pair.shared
        for pattern, dims in rules.items()
        if fnmatchcase(name, pattern)
        for dim, rule in dims.items()
        if dim < _rank(pair, name)
    }
    return rules if _reached(_ruled(pair, guess)) == float("inf") else None


def written(rules: Mapping[str, Mapping[int, DimRule]]) -> str:
    """The rules as the argument `layouts` of a space."""

    def text(dims: Mapping[int, DimRule]) -> str:
        return str(dims[0]) if dims.keys() == {0} else str(dict(dims))

    if not rules:
        return ""
    return "{" + ", ".join(f'"{pattern}": {text(dims)}' for pattern, dims in rules.items()) + "}"
