"""The parts of the report that an analysis fills: why this net, how the search went, which genes mattered."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...search_space.quantization import GENE, policy_genes
from ...tasks.metrics import quality_text
from .analysis import OURS, Analysis
from .curves import Curve
from .glyphs import HUES, share, shown
from .marginals import ABSENT, Marginal
from .plots import FRONT, OTHERS, styled

MOST_BARS, MOST_OF_POLICY = 12, 4
POLICY = f"{GENE}* together"
FEW_NETS = "<p>Too few nets were evaluated to say which genes mattered.</p>"


def hypervolume_figure(curves: Mapping[str, Curve]) -> go.Figure:
    """Hypervolume against evaluations (left) and against seconds (right), a line for each search."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for (name, curve), colour in zip(curves.items(), (FRONT, *OTHERS), strict=False):
        line = {"color": colour, "width": 2.5 if name == OURS else 1.8, "shape": "hv"}
        for column, x in enumerate((list(range(1, len(curve.hypervolume) + 1)), curve.seconds), 1):
            trace = go.Scatter(x=x, y=curve.hypervolume, name=name, line=line, mode="lines", showlegend=column == 1)
            figure.add_trace(trace.update(legendgroup=name), row=1, col=column)
    figure.update_yaxes(title="hypervolume", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title="evaluations", row=1, col=1)
    figure.update_xaxes(title="seconds of evaluating", row=1, col=2)
    return styled(figure, 320)


def comparison_table(comparison: pd.DataFrame, metric: str) -> str:
    """A row for each search; nothing without baselines."""
    if len(comparison) < 2:
        return ""
    head = "".join(f"<th>{escape(n)}</th>" for n in ("", "nets", "hypervolume", "front", f"best {metric}", "latency"))
    rows = "".join(_compared(row, metric) for row in comparison.to_dict("records"))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _compared(row: Mapping[Any, Any], metric: str) -> str:
    best, latency = row["best"], row["latency_ms"]
    found = ("none", "") if pd.isna(best) else (quality_text(best, metric), f"{latency:.3g} ms")
    texts = (row["search"], row["evaluations"], f"{row['hypervolume']:.4f}", f"{row['front']} nets", *found)
    return f"<tr>{''.join(f'<td>{escape(str(t))}</td>' for t in texts)}</tr>"


def importance_table(importances: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each gene and objective, the genes that mattered most first; of a policy's genes a few."""
    if not importances:
        return FEW_NETS
    importances = {objective: _with_policy(found) for objective, found in importances.items()}
    names = dict.fromkeys(n for found in importances.values() for n in found)
    ranked = sorted(names, key=lambda n: -max(found.get(n, 0.0) for found in importances.values()))
    beyond = policy_genes(n for n in ranked if n != POLICY)[MOST_OF_POLICY:]
    ranked = [n for n in ranked if n not in beyond]
    head = "".join(f"<th>{escape(n)}</th>" for n in ("gene", *(k.removesuffix("_ms") for k in importances)))
    rows = (
        f"<tr><th>{escape(n)}</th>{''.join(_bar(found.get(n, 0.0)) for found in importances.values())}</tr>"
        for n in ranked[:MOST_BARS]
    )
    return f'<table class="work"><thead><tr>{head}</tr></thead>{"".join(rows)}</table>'


def _with_policy(importances: Mapping[str, float]) -> dict[str, float]:
    """With a line for all genes of a policy together: each explains little where there are many."""
    of_policy = policy_genes(importances)
    return {POLICY: sum(importances[n] for n in of_policy), **importances} if len(of_policy) > 1 else dict(importances)


def _bar(part: float) -> str:
    return f'<td><i style="width:{100 * part:.1f}%"></i><span>{part:.1%}</span></td>'


def marginal_table(found: Sequence[Marginal], chosen: int | None) -> str:
    """A row for each gene, a cell for each net of the front, the fastest on the left; `chosen`: the answer's column."""
    rows = "".join(_marginal(m, chosen) for m in found)
    head = "<th>gene</th><th>most often</th><th>faster half, slower half</th><th>fastest to slowest</th>"
    return f'<table class="strip"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _marginal(m: Marginal, chosen: int | None) -> str:
    (value, times), (faster, slower) = m.most, m.shift
    shift = f"{faster} → {slower}" if faster != slower else ""
    cells = "".join(_cell(m, i, "chosen " if i == chosen else "") for i in range(len(m.along)))
    texts = (f"<th>{escape(m.gene.name)}</th>", f"<td>{escape(value)} in {times} of {len(m.along)}</td>")
    return f'<tr>{"".join(texts)}<td>{escape(shift)}</td><td><div class="cells">{cells}</div></td></tr>'


def _cell(m: Marginal, at: int, style: str) -> str:
    """A number is the darker the larger it is; an alternative has the colour that it has in the drawing."""
    value = m.along[at]
    if not m.present[at]:
        return f'<b class="{style}none" title="{ABSENT}"></b>'
    title = escape(shown(value), quote=True)
    if m.gene.nested:
        return f'<b class="{style}number" style="--part:{100 * share(m.gene, value):.0f}%" title="{title}"></b>'
    return f'<b class="{style}hue{m.gene.options.index(value) % HUES}" title="{title}"></b>'


def legend(found: Sequence[Marginal], name: str = "") -> str:
    """What the colours of the cells mean, once for genes that offer the same alternatives; name: of all these genes."""
    offers = {m.gene.options: name or m.gene.name.rsplit(".", 1)[-1] for m in reversed(found) if not m.gene.nested}
    words = []
    for options, names in groupby(reversed(offers.items()), key=lambda item: item[0]):
        colours = ", ".join(f'<b class="hue{i % HUES}"></b> {escape(shown(o))}' for i, o in enumerate(options))
        words.append(f"{escape(next(names)[1])}: {colours}")
    return f'<p class="legend">{"; ".join(words)}</p>' if words else ""


def marginal_section(found: Sequence[Marginal], chosen: int | None) -> str:
    """The genes of the architecture; those of the policy, often one for each part, folded below them."""
    of_policy = [m for m in found if m.gene.name.startswith(GENE)]
    own = [m for m in found if m not in of_policy]
    table = legend(own) + marginal_table(own, chosen)
    if not of_policy:
        return table
    folded = legend(of_policy, "bits") + marginal_table(of_policy, chosen)
    return f"{table}<details><summary>Bits, part by part ({len(of_policy)} genes)</summary>{folded}</details>"


def parts(analysis: Analysis, metric: str, chosen: str, by_latency: Sequence[str]) -> dict[str, str]:
    """Slot of the template -> HTML, without the figure. by_latency: ids of the front, the fastest first."""
    at = by_latency.index(chosen) if chosen in by_latency else None
    return {
        "why": "".join(f"<li>{escape(s)}</li>" for s in analysis.why),
        "comparison": comparison_table(analysis.comparison, metric),
        "importances": importance_table(analysis.importances),
        "marginals": marginal_section(analysis.marginals, at),
        "knee": escape(analysis.knee),
    }
