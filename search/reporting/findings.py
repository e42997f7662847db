"""What a report says of a search, as rows of its template: how it went, which genes mattered, what the front shares."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...pages import styled
from ...search_space.quantization import GENE, policy_genes
from ...values import LATENCY, Metric
from .analysis import OURS
from .curves import Curve
from .glyphs import HUES, local_name, share, shown
from .marginals import ABSENT, Marginal
from .plots import FRONT, OTHERS

MOST_BARS, MOST_OF_POLICY = 12, 4
POLICY = f"{GENE}* together"


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


def comparison_rows(comparison: pd.DataFrame, metric: Metric) -> list[list[str]]:
    """(search, nets, hypervolume, front, best, latency) of each search; nothing without baselines."""
    return [
        [row["search"], str(row["evaluations"]), f"{row['hypervolume']:.4f}", f"{row['front']} nets"]
        + (["none", ""] if pd.isna(row["best"]) else [metric.text(row["best"]), LATENCY.text(row["latency_ms"])])
        for row in (comparison.to_dict("records") if len(comparison) > 1 else ())
    ]


def importance_rows(importances: Mapping[str, Mapping[str, float]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """(gene, (text, share) for each objective), the genes that mattered most first; of a policy's genes a few."""
    shares = {objective: _with_policy(of_genes) for objective, of_genes in importances.items()}
    names = dict.fromkeys(n for of_genes in shares.values() for n in of_genes)
    ranked = sorted(names, key=lambda n: -max(of_genes.get(n, 0.0) for of_genes in shares.values()))
    beyond = policy_genes(n for n in ranked if n != POLICY)[MOST_OF_POLICY:]
    return [
        (name, [(f"{part:.1%}", part) for part in (of_genes.get(name, 0.0) for of_genes in shares.values())])
        for name in [n for n in ranked if n not in beyond][:MOST_BARS]
    ]


def _with_policy(importances: Mapping[str, float]) -> dict[str, float]:
    """With a line for all genes of a policy together: each explains little where there are many."""
    of_policy = policy_genes(importances)
    return {POLICY: sum(importances[n] for n in of_policy), **importances} if len(of_policy) > 1 else dict(importances)


class Strip(NamedTuple):
    """A gene along the front: how often its most frequent value occurs, how it shifts, and a cell for each net.

    cells: (class, title, part of the largest option, 0 to 1). A number is the darker the larger it is; an alternative
    has the colour that it has in the drawing.
    """

    gene: str
    most: str
    shift: str
    cells: list[tuple[str, str, float]]


def strip(m: Marginal) -> Strip:
    (value, times), (faster, slower), nets = m.most, m.shift, len(m.along)
    shift = f"{faster} → {slower}" if faster != slower else ""
    return Strip(m.gene.name, f"{value} in {times} of {nets}", shift, [_cell(m, i) for i in range(nets)])


def _cell(m: Marginal, at: int) -> tuple[str, str, float]:
    value = m.along[at]
    if not m.present[at]:
        return "none", ABSENT, 0.0
    if m.gene.nested:
        return "number", shown(value), share(m.gene, value)
    return f"hue{m.gene.options.index(value) % HUES}", shown(value), 1.0


def legend(along: Sequence[Marginal], name: str = "") -> list[tuple[str, list[tuple[str, str]]]]:
    """(gene, (class, option)): what the colours mean, once for genes that offer the same; name: of all these genes."""
    offers = {m.gene.options: name or local_name(m.gene) for m in reversed(along) if not m.gene.nested}
    return [
        (next(names)[1], [(f"hue{i % HUES}", shown(option)) for i, option in enumerate(options)])
        for options, names in groupby(reversed(offers.items()), key=lambda item: item[0])
    ]


class Strips(NamedTuple):
    title: str
    legend: list[tuple[str, list[tuple[str, str]]]]
    rows: list[Strip]


def strips(along: Sequence[Marginal]) -> list[Strips]:
    """The genes of the architecture, and those of the policy, often one for each part, under a title of their own."""
    of_policy = [m for m in along if m.gene.name.startswith(GENE)]
    own = [m for m in along if m not in of_policy]
    tables = [Strips("", legend(own), [strip(m) for m in own])]
    if of_policy:
        title = f"Bits, part by part ({len(of_policy)} genes)"
        tables.append(Strips(title, legend(of_policy, "bits"), [strip(m) for m in of_policy]))
    return tables
