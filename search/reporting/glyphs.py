"""Small pictures of single genes as SVG: what was chosen, beside what could have been.

Coordinates are SVG user units, y grows downwards. Colours are CSS classes of the page that holds the picture.
"""

from collections.abc import Iterable

from markupsafe import Markup

from ...search_space.architecture import GeneValue
from ...search_space.trial import Gene

CELL = 34.0
"""Height of one gene's picture."""
HUES = 8
MOST_SQUARES = 24
SLOTS = ("mixer", "ffn", "stem", "position", "readout")
NOTHING = ("none", "None", "False")


def local_name(gene: Gene) -> str:
    return str(gene.path[-1])


def shown(value: object) -> str:
    """A gene value as a reader writes it: 2 for 2.0, 0.125, softmax."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def mark(name: str, about: str, picture: Markup) -> Markup:
    """The picture of one gene: its full name for scripts, its value and range for who points at it."""
    return Markup('<g data-gene="{0}"><title>{0}: {1}</title>{2}</g>').format(name, about, picture)


def text(x: float, y: float, content: str, style: str = "", *, room: float = 1000.0) -> Markup:
    """A line of text, cut with an ellipsis where it would leave `room` units (6.8 units a letter at most)."""
    most = max(1, int(room / 6.8))
    cut = content if len(content) <= most else content[: most - 1] + "…"
    return Markup('<text x="{:g}" y="{:g}" class="{}">{}</text>').format(x, y, style, cut)


def box(x: float, y: float, w: float, h: float, style: str, radius: float = 4) -> Markup:
    shape = Markup('<rect x="{:.4g}" y="{:.5g}" width="{:.4g}" height="{:.4g}" rx="{:g}" class="{}"/>')
    return shape.format(x, y, w, h, radius, style)


def polygon(points: Iterable[tuple[float, float]], style: str) -> Markup:
    corners = " ".join(f"{x:.5g},{y:.5g}" for x, y in points)
    return Markup('<polygon points="{}" class="{}"/>').format(corners, style)


def together(pictures: Iterable[Markup]) -> Markup:
    return Markup("").join(pictures)


def about(gene: Gene, value: GeneValue) -> str:
    return f"{shown(value)} (of {', '.join(map(shown, gene.options))})"


def label_glyph(x: float, y: float, w: float, gene: Gene, value: GeneValue) -> Markup:
    """An alternative: a coloured label. The same option has the same colour in every layer."""
    index = gene.options.index(value) if value in gene.options else 0
    local, nothing = local_name(gene), shown(value) in NOTHING
    style, ink = ("nothing", "faint") if nothing else (f"hue{index % HUES}", "strong")
    if local in SLOTS:  # the name of an operator says what it is of
        word = f"no {local}" if nothing else shown(value)
        picture = box(x, y + 4, w, CELL - 10, f"label {style}", 6)
        picture += text(x + w / 2, y + 20, word, f"middle {ink}", room=w - 14)
    else:
        picture = text(x, y + 11, local, "small", room=w) + box(x, y + 15, w, 15, f"label {style}", 5)
        picture += text(x + w / 2, y + 26.5, shown(value), f"small middle {ink}", room=w - 8)
    return mark(gene.name, about(gene, value), picture)


def bar_glyph(x: float, y: float, w: float, gene: Gene, value: GeneValue) -> Markup:
    """A number: the filled share of its largest option, and a tick at every option where they are few."""
    picture = _caption(x, y, w, gene, value) + box(x, y + 19, w, 5, "empty", 2.5)
    picture += box(x, y + 19, max(3.0, w * share(gene, value)), 5, "full", 2.5)
    if len(gene.options) <= 8:
        picture += together(box(x + w * share(gene, o) - 1.2, y + 18, 1.2, 7, "tick", 0) for o in gene.options)
    return mark(gene.name, about(gene, value), picture)


def funnel_glyph(x: float, y: float, w: float, h: float, gene: Gene, value: GeneValue) -> Markup:
    """The hidden width of an FFN: from the stream to the hidden units and back; dashed, the widest there could be."""
    picture = _caption(x, y, w, gene, value)
    for part, style in ((1.0, "ghost"), (share(gene, value), "funnel")):
        end, middle, top, low = w / 8, max(3.0, w / 2 * part), y + 18, y + h - 3
        outline = [(-end, low), (-middle, low - h / 6), (-middle, top + h / 6), (-end, top)]
        outline += [(-dx, py) for dx, py in reversed(outline)]
        picture += polygon(((x + w / 2 + dx, py) for dx, py in outline), style)
    return mark(gene.name, about(gene, value), picture)


def heads_glyph(
    x: float, y: float, w: float, heads: tuple[Gene, GeneValue], group: tuple[Gene, GeneValue] | None
) -> Markup:
    """Attention heads as squares; query heads that share keys and values stand together, those left out are hollow."""
    (gene, value), (of, each) = heads, group or (heads[0], 1)
    clusters, squares = _count(gene.top), _count(of.top) if group else 1
    edge = min(9.0, (w - 4 * (clusters - 1)) / (clusters * squares) - 1.5)
    words = f"{local_name(gene)} {shown(value)}"
    if group:
        words = f"{words.replace('kv_heads', 'kv')}, {local_name(of)} {shown(each)}"
    picture = text(x, y + 12, words, "small", room=w)
    for i in range(clusters):
        start = x + i * (squares * (edge + 1.5) + 4)
        for j in range(squares):
            used = i < _count(value) and j < _count(each)
            picture += box(start + j * (edge + 1.5), y + 18, edge, 9, "head" if used else "ghost", 1.5)
    picture = mark(gene.name, about(gene, value), picture)
    return mark(of.name, about(of, each), picture) if group else picture


def few_heads(heads: Gene, group: Gene | None) -> bool:
    """Whether there are few enough to draw one by one."""
    numbers = heads.nested and (group is None or group.nested)
    return numbers and 0 < _count(heads.top) * (_count(group.top) if group else 1) <= MOST_SQUARES


def share(gene: Gene, value: GeneValue) -> float:
    """The part of its largest option that a number is, 0 to 1; by rank where a range is not of sizes."""
    low, top = float(gene.options[0] or 0), float(gene.top or 0)
    if low >= 0 and top > 0:
        return min(1.0, float(value or 0) / top)
    return (gene.options.index(value) + 1) / len(gene.options) if value in gene.options else 1.0


def _caption(x: float, y: float, w: float, gene: Gene, value: GeneValue) -> Markup:
    number = f"{shown(value)} of {shown(gene.top)}" if len(gene.options) > 1 else shown(value)
    left = text(x, y + 12, local_name(gene), "small", room=w - 5.6 * len(number))
    return left + text(x + w, y + 12, number, "small strong end")


def _count(value: GeneValue) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
