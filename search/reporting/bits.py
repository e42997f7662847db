"""The quantization policy of a net as a picture (SVG): a row for each layer, a cell for each part of it.

Half a cell has the bits of the weights, the other half those of the activations that meet them; the fewer bits, the
stronger the colour.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ...search_space.architecture import Architecture, GeneValue
from ...search_space.paths import path_of
from ...search_space.quantization import GENE, Scheme, policy_genes
from ...search_space.trial import Gene
from .drawing import group_of, in_order
from .glyphs import about, box, mark, shown, text, together

ROW, HEAD, GAP = 24.0, 18.0, 6.0
LABEL_LEAST, LABEL_MOST = 64.0, 170.0
CELL_LEAST, CELL_MOST = 54.0, 150.0
WIDTH = 420.0
WORDY = 84.0
"""A cell that is wide enough for `w4g32` and `a16`; a narrower one has the numbers alone."""
FLOAT = Scheme().text
DETAILS: Mapping[str, Callable[[Scheme], bool]] = {
    "t: one scale for a whole weight": lambda scheme: scheme.whole,
    "z: weights with zero points": lambda scheme: scheme.zeros,
    "s: activations without": lambda scheme: scheme.signed,
    "d: activations with scales found at run time": lambda scheme: scheme.dynamic,
    "bf16: bfloat16": lambda scheme: scheme.format == "bf16",
    "fp8: floats (e4m3)": lambda scheme: scheme.format == "fp8",
}


def in_words(architecture: Mapping[str, GeneValue]) -> str:
    """`w8a8 in 3 of 6 parts, w4a16g32 in 2, float in 1`: the most frequent first; nothing without a policy."""
    schemes = Counter(str(architecture[name]) for name in policy_genes(architecture)).most_common()
    parts = [f"{_name(scheme)} in {times}" for scheme, times in schemes]
    return ", ".join([f"{parts[0]} of {sum(n for _, n in schemes)} parts", *parts[1:]]) if parts else ""


@dataclass(frozen=True)
class Policy:
    """What the report shows of a policy. legend: words with their shades (class, word). schemes: with their parts."""

    picture: Markup
    legend: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    schemes: Mapping[str, Sequence[str]]


def policy(architecture: Architecture, genes: Mapping[str, Gene]) -> Policy | None:
    """Picture, legend and the same as text; None for a net without a policy. genes: those of the space, by name."""
    if not policy_genes(architecture):
        return None
    return Policy(draw_bits(architecture, genes), _legend(architecture), _parts_by_scheme(architecture))


def draw_bits(architecture: Architecture, genes: Mapping[str, Gene]) -> Markup:
    """The picture as an `<svg>` element. genes: those of the whole space, by name."""
    names = policy_genes([*genes, *(n for n in architecture if n not in genes)])
    rows: dict[str, dict[str, str]] = {}
    for name in names:
        row, column = _place(name)
        rows.setdefault(row, {})[column] = name
    columns = list(dict.fromkeys(c for row in rows.values() for c in row if c))
    left = min(LABEL_MOST, max(LABEL_LEAST, 8 + 6.8 * max(map(len, rows))))
    step = min(CELL_MOST, max(CELL_LEAST, (WIDTH - left) / max(1, len(columns))))
    picture = together(text(left + i * step, 12, c, "small", room=step - GAP) for i, c in enumerate(columns))
    y = HEAD if columns else 0.0
    for row in reversed(in_order(rows)):
        picture += text(0, y + 15.5, row, "small", room=left - 4)
        for column, name in rows[row].items():
            x, w = (left + columns.index(column) * step, step) if column else (left, max(1, len(columns)) * step)
            picture += _cell(name, x, y, w - GAP, architecture, genes.get(name))
        y += ROW
    width = max(WIDTH, left + len(columns) * step)
    return Markup(
        '<svg class="net bits" viewBox="0 0 {0:g} {1:g}" style="min-width:{2:g}px" role="img" '
        'xmlns="http://www.w3.org/2000/svg"><title>Bits of the parts of net {3}</title><desc>{4}</desc>{5}</svg>'
    ).format(width, y, 0.8 * width, architecture.id, in_words(architecture), picture)


def _place(gene: str) -> tuple[str, str]:
    """(row, column): `layers.0` and `mixer` of `quantize.layers.0.mixer`; what is of no layer has a row of its own."""
    part = gene.removeprefix(GENE)
    group = group_of(part)
    layered = any(isinstance(piece, int) for piece in path_of(group))
    return (group, part.removeprefix(group + ".")) if layered else (part, "")


def _cell(name: str, x: float, y: float, w: float, net: Mapping[str, GeneValue], gene: Gene | None) -> Markup:
    if name not in net:
        return box(x, y + 2, w, ROW - 5, "ghost", 4)
    scheme, half = Scheme.parse(str(net[name])), w / 2
    weight, activation = scheme.halves
    halves = (scheme.weights, weight, "weight"), (scheme.activations, activation, "input")
    picture = Markup()
    for i, (bits, words, style) in enumerate(halves):
        picture += box(x + i * half, y + 2, half - 1.5, ROW - 5, f"{style} bits{bits}", 4)
        picture += text(x + (i + 0.5) * half, y + 15.5, words if w >= WORDY else str(bits), "small middle", room=w)
    return mark(name, about(gene, net[name]) if gene else shown(net[name]), picture)


def _legend(net: Mapping[str, GeneValue]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The shades that occur, and what the letters of the schemes mean."""
    schemes = [Scheme.parse(str(net[name])) for name in policy_genes(net)]
    weights, inputs = {s.weights for s in schemes}, {s.activations for s in schemes}
    shades = [("weights", "weight", weights), ("activations", "input", inputs)]
    words = [f"g{size}: {size} weights share a scale" for size in sorted({s.group for s in schemes if s.group})]
    words += [meaning for meaning, applies in DETAILS.items() if any(map(applies, schemes))]
    return [
        *((of, [(f"{style} bits{bits}", f"{bits} bits") for bits in sorted(own)]) for of, style, own in shades),
        *((meaning, []) for meaning in [*words, "16 bits are floats of half precision"]),
    ]


def _parts_by_scheme(net: Mapping[str, GeneValue]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for name in policy_genes(net):
        parts.setdefault(_name(str(net[name])), []).append(name.removeprefix(GENE))
    return parts


def _name(scheme: str) -> str:
    return "float" if scheme == FLOAT else scheme
