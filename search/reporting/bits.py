"""The quantization policy of a net as a picture (SVG): a row for each layer, a cell for each part of it.

Half a cell has the bits of the weights, the other half those of the activations that meet them; the fewer bits, the
stronger the colour.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from html import escape

from ...search_space.architecture import Architecture, GeneValue
from ...search_space.quantization import GENE, Scheme, parse_scheme, policy_genes
from ...search_space.trial import Gene
from .drawing import group_of, in_order
from .glyphs import about, box, mark, shown, text

ROW, HEAD, GAP = 24.0, 18.0, 6.0
LABEL_LEAST, LABEL_MOST = 64.0, 170.0
CELL_LEAST, CELL_MOST = 54.0, 150.0
WIDTH = 420.0
WORDY = 84.0
"""A cell that is wide enough for `w4g32` and `a16`; a narrower one has the numbers alone."""
FLOAT = "w16a16"
DETAILS: Mapping[str, Callable[[Scheme], bool]] = {
    "t: one scale for a whole weight": lambda scheme: scheme.whole,
    "z: weights with zero points": lambda scheme: scheme.zeros,
    "s: activations without": lambda scheme: scheme.signed,
    "bf16: bfloat16": lambda scheme: scheme.format == "bf16",
    "fp8: floats (e4m3)": lambda scheme: scheme.format == "fp8",
}


def in_words(architecture: Mapping[str, GeneValue]) -> str:
    """`w8a8 in 3 of 6 parts, w4a16g32 in 2, float in 1`: the most frequent first; nothing without a policy."""
    schemes = Counter(str(architecture[name]) for name in policy_genes(architecture)).most_common()
    told = [f"{_said(scheme)} in {times}" for scheme, times in schemes]
    return ", ".join([f"{told[0]} of {sum(n for _, n in schemes)} parts", *told[1:]]) if told else ""


def section(architecture: Architecture, genes: Mapping[str, Gene]) -> str:
    """The picture with its legend, and the same as text; nothing for a net without a policy."""
    if not policy_genes(architecture):
        return ""
    return (
        '<h2 class="below">Bits of its parts</h2><p>Left the weights, right the activations that meet them; dashed: '
        "the net has no such part. Data flows upwards.</p>"
        f'<div class="wide">{draw_bits(architecture, genes)}</div>{_legend(architecture)}{_as_text(architecture)}'
    )


def draw_bits(architecture: Architecture, genes: Mapping[str, Gene]) -> str:
    """The picture as an `<svg>` element. genes: those of the whole space, by name."""
    names = policy_genes([*genes, *(n for n in architecture if n not in genes)])
    rows: dict[str, dict[str, str]] = {}
    for name in names:
        row, column = _place(name)
        rows.setdefault(row, {})[column] = name
    columns = list(dict.fromkeys(c for row in rows.values() for c in row if c))
    left = min(LABEL_MOST, max(LABEL_LEAST, 8 + 6.8 * max(map(len, rows))))
    step = min(CELL_MOST, max(CELL_LEAST, (WIDTH - left) / max(1, len(columns))))
    picture = "".join(text(left + i * step, 12, c, "small", room=step - GAP) for i, c in enumerate(columns))
    y = HEAD if columns else 0.0
    for row in reversed(in_order(rows)):
        picture += text(0, y + 15.5, row, "small", room=left - 4)
        for column, name in rows[row].items():
            x, w = (left + columns.index(column) * step, step) if column else (left, max(1, len(columns)) * step)
            picture += _cell(name, x, y, w - GAP, architecture, genes.get(name))
        y += ROW
    width = max(WIDTH, left + len(columns) * step)
    return (
        f'<svg class="net bits" viewBox="0 0 {width:g} {y:g}" style="min-width:{0.8 * width:g}px" role="img" '
        f'xmlns="http://www.w3.org/2000/svg"><title>Bits of the parts of net {architecture.id}</title>'
        f"<desc>{escape(in_words(architecture))}</desc>{picture}</svg>"
    )


def _place(gene: str) -> tuple[str, str]:
    """(row, column): `layers.0` and `mixer` of `quantize.layers.0.mixer`; what is of no layer has a row of its own."""
    part = gene.removeprefix(GENE)
    group = group_of(part)
    layered = any(piece.isdecimal() for piece in group.split("."))
    return (group, part.removeprefix(group + ".")) if layered else (part, "")


def _cell(name: str, x: float, y: float, w: float, net: Mapping[str, GeneValue], gene: Gene | None) -> str:
    if name not in net:
        return box(x, y + 2, w, ROW - 5, "ghost", 4)
    scheme, half = parse_scheme(str(net[name])), w / 2
    weight, activation = _halves(scheme)
    halves = (scheme.weights, weight, "weight"), (scheme.activations, activation, "input")
    picture = ""
    for i, (bits, words, style) in enumerate(halves):
        picture += box(x + i * half, y + 2, half - 1.5, ROW - 5, f"{style} bits{bits}", 4)
        picture += text(x + (i + 0.5) * half, y + 15.5, words if w >= WORDY else str(bits), "small middle", room=w)
    return mark(name, about(gene, net[name]) if gene else shown(net[name]), picture)


def _halves(scheme: Scheme) -> tuple[str, str]:
    """What is said of the weights and of the activations: w4g32z and a16; fp8 and fp8."""
    if scheme.format:
        return scheme.format, scheme.format if scheme.activations < 16 else f"a{scheme.activations}"
    grouped = f"g{scheme.group}" if scheme.group else ""
    return (
        f"w{scheme.weights}{grouped}{'t' * scheme.whole}{'z' * scheme.zeros}",
        f"a{scheme.activations}{'s' * scheme.signed}",
    )


def _legend(net: Mapping[str, GeneValue]) -> str:
    """The shades that occur."""
    schemes = [parse_scheme(str(net[name])) for name in policy_genes(net)]
    told = [
        f"{words}: {', '.join(_shade(style, bits) for bits in sorted(found))} bits"
        for words, style, found in (
            ("weights", "weight", {s.weights for s in schemes}),
            ("activations", "input", {s.activations for s in schemes}),
        )
    ]
    grouped = sorted({s.group for s in schemes if s.group})
    told += [f"g{size}: {size} weights share a scale" for size in grouped]
    told += [words for words, known in DETAILS.items() if any(map(known, schemes))]
    return f'<p class="legend bits">{"; ".join(told)}; 16 bits are floats of half precision</p>'


def _shade(style: str, bits: int) -> str:
    return f'<b class="{style} bits{bits}"></b> {bits}'


def _as_text(net: Mapping[str, GeneValue]) -> str:
    by_scheme: dict[str, list[str]] = {}
    for name in policy_genes(net):
        by_scheme.setdefault(str(net[name]), []).append(name.removeprefix(GENE))
    items = "".join(f"<li>{escape(_said(s))}: {escape(', '.join(parts))}</li>" for s, parts in by_scheme.items())
    return f"<details><summary>As text</summary><ul>{items}</ul></details>"


def _said(scheme: str) -> str:
    return "float" if scheme == FLOAT else scheme
