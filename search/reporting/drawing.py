"""An architecture drawn as a picture (SVG), for any space: what the names of its genes say is all that is used.

`layers.3.ffn_ratio` belongs to group `layers.3`; one card is drawn for each group, the input at the bottom, the
residual stream beside the cards. Layers that the space has and this net has not are dashed.
"""

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from ...search_space import paths
from ...search_space.architecture import Architecture
from ...search_space.paths import kind_of, numbers_in, path_of, text_of
from ...search_space.quantization import GENE
from ...search_space.trial import Gene, make_gene
from . import glyphs
from .cards import Chosen, contents
from .glyphs import box, polygon, text, together

WIDTH, LEFT, PAD, BETWEEN = 430.0, 62.0, 10.0, 10.0
STREAM = 28.0
ENDS = {"norm": -3, "stem": -2, "position": -1, "readout": 1}
STREAM_GENES = ("width", "dim", "d_model", "embed_dim", "n_embd", "hidden_size")


def group_of(name: str) -> str:
    """The part of the net that a gene is of: a layer, a module; "" is the whole net."""
    return name if name in ENDS and name != "norm" else text_of(paths.group_of(path_of(name)))


def groups(names: Iterable[str]) -> dict[str, list[str]]:
    """Gene names by group, from the input of the net to its output."""
    results: dict[str, list[str]] = {}
    for name in names:
        results.setdefault(group_of(name), []).append(name)
    return {g: results[g] for g in in_order(results)}


def in_order(names: Iterable[str]) -> list[str]:
    """Groups from the input of the net to its output."""
    names = list(names)
    seen = list(dict.fromkeys(map(kind_of, names)))
    return sorted(names, key=lambda g: _place(g, seen))


def draw(architecture: Architecture, genes: Mapping[str, Gene]) -> Markup:
    """The picture as an `<svg>` element. genes: those of the whole space, by name. Policies are drawn in `bits`."""
    named = [*genes, *(n for n in architecture if n not in genes)]
    members = groups(n for n in named if not n.startswith(GENE))
    present = {g: _chosen(architecture, genes, names) for g, names in members.items()}
    families = {kind_of(g) for g, chosen in present.items() if chosen}
    stacks = {kind_of(g) for g in members if _is_layer(g)}
    rows, y = [_terminal("output", 1)], 36.0
    for group in reversed(members):
        if kind_of(group) in families:
            picture, height = _card(group, present[group], y, titled=len(stacks) > 1)
            rows.append(picture)
            y += height + BETWEEN
    rows.append(_terminal("input", y))
    return Markup(
        '<svg class="net" viewBox="0 0 {:g} {:g}" role="img" xmlns="http://www.w3.org/2000/svg">'
        "<title>Architecture {}</title>{}{}</svg>"
    ).format(WIDTH, y + 23, architecture.id, _stream(present.get("", []), y), together(rows))


def _chosen(architecture: Architecture, genes: Mapping[str, Gene], names: Iterable[str]) -> Chosen:
    """The genes of one group that this net has, with their values."""
    have = [(n, architecture[n]) for n in names if n in architecture]
    return [(genes.get(n) or make_gene(n, [value]), value) for n, value in have]


def _is_layer(group: str) -> bool:
    return isinstance(path_of(group)[-1], int)


def _place(group: str, seen: list[str]) -> tuple[int, int, list[int]]:
    """Sorting key: the whole net and the stem first, the readout last, numbers as numbers."""
    end = -3 if not group else ENDS.get(str(path_of(group)[0]), 0)
    return end, seen.index(kind_of(group)), numbers_in(group)


def _terminal(word: str, y: float) -> Markup:
    return box(1, y, 2 * STREAM - 2, 21, "card", 10) + text(STREAM, y + 15, word, "small strong middle")


def _stream(whole: Chosen, bottom: float) -> Markup:
    """The residual stream, from the input up to the output; as thick as the net is wide."""
    wide = [glyphs.share(g, v) for g, v in whole if g.name in STREAM_GENES and g.nested]
    thick = 2 + 6 * (wide[0] if wide else 0.5)
    arrow = polygon([(STREAM - 7, 31), (STREAM, 22), (STREAM + 7, 31)], "stream")
    return box(STREAM - thick / 2, 30, thick, bottom - 30, "stream", 0) + arrow


def _card(group: str, chosen: Chosen, y: float, *, titled: bool) -> tuple[Markup, float]:
    """One group as (picture, height)."""
    keep = [(g, v) for g, v in chosen if glyphs.local_name(g) == "keep"]
    rest = [pair for pair in chosen if pair not in keep]
    left_out = not rest and all(value is False for _, value in keep)
    if left_out:
        height = 24.0
        inside = box(LEFT, y, WIDTH - LEFT - 2, height, "ghost", 8)
        inside += text((LEFT + WIDTH) / 2, y + 16, f"{group} is left out", "small faint middle")
    else:
        title = (group or "whole net") if titled or not _is_layer(group) else ""
        inside, height = _full(group, title, rest, y)
    node = _node(group, keep, y + height / 2, left_out)
    return Markup('<g data-group="{}">{}{}</g>').format(group, inside, node), height


def _full(group: str, title: str, chosen: Chosen, y: float) -> tuple[Markup, float]:
    """The card of a part that the net has."""
    head, x, w = (17.0 if title else 0.0), LEFT + PAD, WIDTH - LEFT - 2 - 2 * PAD
    picture, height = contents(x, y + 5 + head, w, chosen, layer=bool(group))
    picture += text(x, y + 17, title, "small strong", room=w) if title else Markup()
    height += head + 8
    card = box(LEFT, y, WIDTH - LEFT - 2, height, "card", 8)
    return (_branches(y, height) if group else Markup()) + card + picture, height


def _branches(y: float, height: float) -> Markup:
    """Out of the stream at the bottom of the card, back into it at the top."""
    out, back = y + height - 9, y + 9
    path = f"M{STREAM:g} {out:g}H{LEFT:g}M{LEFT:g} {back:g}H{STREAM + 9:g}"
    head = [(STREAM + 4, back), (STREAM + 11, back - 4), (STREAM + 11, back + 4)]
    return Markup('<path d="{}" class="branch"/>').format(path) + polygon(head, "stream")


def _node(group: str, keep: Chosen, y: float, left_out: bool) -> Markup:
    """The number of a layer, on the stream. It carries the gene that keeps the layer."""
    if not _is_layer(group):
        return Markup()
    circle = Markup('<circle cx="{:g}" cy="{:g}" r="11" class="{}"/>')
    picture = circle.format(STREAM, y, "node out" if left_out else "node")
    picture += text(STREAM, y + 4, str(path_of(group)[-1]), "small middle faint" if left_out else "small middle strong")
    for gene, value in keep:
        picture = glyphs.mark(gene.name, glyphs.about(gene, value), picture)
    return picture
