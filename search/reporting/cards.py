"""What stands in one card of the drawing of an architecture: the pictures of the genes of one group, side by side."""

from collections.abc import Callable, Sequence

from markupsafe import Markup

from ...search_space.architecture import GeneValue
from ...search_space.trial import Gene
from . import glyphs
from .glyphs import CELL, local_name

Chosen = Sequence[tuple[Gene, GeneValue]]
Cell = Callable[[float, float, float], Markup]  # (x, y, width) -> picture
GAP = 12.0
FFN = ("ffn", "mlp", "expansion", "hidden")
HEADS = ("heads", "kv_heads", "n_head", "n_heads", "num_heads")
FUNNEL_HEIGHT = 38.0, 46.0  # least and most


def contents(x: float, y: float, w: float, chosen: Chosen, *, layer: bool) -> tuple[Markup, float]:
    """(picture, height). In a layer, what belongs to the FFN stands on the right, all else on the left."""
    ffn = [pair for pair in chosen if any(word in local_name(pair[0]) for word in FFN)]
    other = [pair for pair in chosen if pair not in ffn]
    if not layer or not ffn:
        return _grid(x, y, w, _cells(chosen))
    if not other:
        return _ffn(x, y, w, ffn, CELL)
    left = 0.6 * w
    picture, height = _grid(x, y, left, _cells(other))
    more, more_height = _ffn(x + left + GAP, y, w - left - GAP, ffn, height)
    return picture + more, max(height, more_height)


def _grid(x: float, y: float, w: float, cells: Sequence[Cell]) -> tuple[Markup, float]:
    """Two, three or more in a row, by the room there is."""
    columns = max(1, int((w + GAP) // 105))
    step = (w + GAP) / columns
    drawn = [cell(x + i % columns * step, y + i // columns * CELL, step - GAP) for i, cell in enumerate(cells)]
    return glyphs.together(drawn), max(1, -(-len(cells) // columns)) * CELL


def _ffn(x: float, y: float, w: float, chosen: Chosen, height: float) -> tuple[Markup, float]:
    """The funnel of the hidden width, which takes the height that is left, below the other genes of the FFN."""
    numbers = [pair for pair in chosen if pair[0].nested]
    if not numbers:
        return _grid(x, y, w, _cells(chosen))
    funnel = min(numbers, key=lambda pair: "expansion" in pair[0].name)
    rest = [pair for pair in chosen if pair is not funnel]
    picture, used = _grid(x, y, w, _cells(rest)) if rest else (Markup(), 0.0)
    least, most = FUNNEL_HEIGHT
    room = min(most, max(least, height - used))
    return picture + glyphs.funnel_glyph(x, y + used, w, room, *funnel), used + room


def _cells(chosen: Chosen) -> list[Cell]:
    """One for each gene; heads and the group that shares their keys make one together."""
    by_name = {local_name(gene): (gene, value) for gene, value in chosen}
    heads = next((by_name[n] for n in HEADS if n in by_name), None)
    group = by_name.get("group")
    if heads is None or not glyphs.few_heads(heads[0], group[0] if group else None):
        return [_cell(*pair) for pair in chosen]
    rest = [pair for pair in chosen if pair not in (heads, group)]
    first = [pair for pair in rest if not pair[0].nested]
    last = [pair for pair in rest if pair[0].nested]
    squares: Cell = lambda x, y, w: glyphs.heads_glyph(x, y, w, heads, group)  # noqa: E731
    return [*(_cell(*p) for p in first), squares, *(_cell(*p) for p in last)]


def _cell(gene: Gene, value: GeneValue) -> Cell:
    glyph = glyphs.bar_glyph if gene.nested else glyphs.label_glyph
    return lambda x, y, w: glyph(x, y, w, gene, value)
