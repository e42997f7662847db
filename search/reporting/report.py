"""report.html: one page, in one file, that says what a search found. It loads nothing from anywhere."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from os import PathLike
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from ...files import write_atomic
from ...search_space.architecture import Architecture
from ...search_space.trial import Gene
from ...tasks.metrics import quality_text
from ..costs import Price, price_in
from ..units import human
from . import bits, findings
from .analysis import Analysis
from .drawing import draw
from .plots import latency, pareto_figure, price_text, training_figure

LEADING_NUMBER = re.compile(r"[\d.,]*\d ?(?:%|[mµnu]?[sJ]\b|[KMGT]?i?B\b|[KMGT]\b)?(?=$|[\s,(])")
NO_CURVE = "<p>No training curve was kept with this run.</p>"


@dataclass(frozen=True)
class Report:
    """What the page says.

    title: the command. facts: label -> text, in the order of reading. notes: sentences that a reader must not miss.
    trials, front: rows with `id`, `metric`, `latency_ms`, `feasible` and the genes; `latency_low_ms`,
        `latency_high_ms`, `measured_ms` and the costs of `costs.PRICES` are shown where they are there.
    chosen: id of the net that is the answer, whose genes are `architecture`. space_genes: those of the space, by name.
    cost_by_kind: kind of kernel -> (FLOPs, bytes, number of kernels). history, events: of the training.
    analysis: what can be said of the search; without it the page has no such sections. sign: of the metric, -1 where
    more is better, else 1.
    """

    title: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    trials: pd.DataFrame
    front: pd.DataFrame
    chosen: str
    budget_ms: float | None
    architecture: Architecture
    space_genes: Mapping[str, Gene]
    cost_by_kind: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    events: Sequence[str] = ()
    metric: str = "accuracy"
    analysis: Analysis | None = None
    sign: int = -1


def write_report(path: str | PathLike[str], content: Report) -> Path:
    """Write the page, whole or not at all. It opens without a network."""
    page = Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    return write_atomic(path, page.substitute(_parts(content)))


def _parts(content: Report) -> dict[str, str]:
    """What fills the template: slot -> HTML."""
    pareto = pareto_figure(
        content.trials,
        content.front,
        metric=content.metric,
        chosen=content.chosen,
        budget_ms=content.budget_ms,
        genes=list(content.space_genes),
        others=content.analysis.fronts if content.analysis else None,
        sign=content.sign,
    )
    return {
        **_findings(content),
        "plotly": get_plotlyjs(),
        "title": escape(content.title),
        "chosen": escape(content.chosen),
        "metric": escape(content.metric),
        "tiles": "".join(_tile(k, v) for k, v in content.facts.items() if LEADING_NUMBER.match(v)),
        "facts": "".join(_fact(k, v) for k, v in content.facts.items() if not LEADING_NUMBER.match(v)),
        "notes": _list(content.notes, "notes"),
        "pareto": _div(pareto, "pareto"),
        "drawing": draw(content.architecture, content.space_genes),
        "bits": bits.section(content.architecture, content.space_genes),
        "work": _work(content.cost_by_kind),
        "front": _front(content),
        "training": _div(training_figure(content.history), "training") if content.history else NO_CURVE,
        "events": _list(content.events, "events"),
    }


def _findings(content: Report) -> dict[str, str]:
    """The sections of the analysis: those on the answer, and those on the search."""
    if content.analysis is None:
        return {"why": "", "findings": ""}
    by_latency = [str(name) for name in content.front.sort_values("latency_ms")["id"]]
    said = findings.parts(content.analysis, content.metric, content.chosen, by_latency)
    said["curve"] = _div(findings.hypervolume_figure(content.analysis.curves), "curve")
    sections = Template(files(__package__).joinpath("findings.html").read_text(encoding="utf-8"))
    return {"why": f'<section><h2>Why this net</h2><ol class="why">{said["why"]}</ol></section>',
            "findings": sections.substitute(said, metric=escape(content.metric))}  # fmt: skip


def _div(figure: go.Figure, name: str) -> str:
    config = {"displayModeBar": False, "responsive": True}
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config)
    return html


def _tile(label: str, value: str) -> str:
    """A fact that starts with a number, the number large."""
    number = LEADING_NUMBER.match(value)
    at = number.end() if number else 0
    rest = value[at:].lstrip(" ,")
    return f"<div><dt>{escape(label)}</dt><dd><b>{escape(value[:at])}</b> <span>{escape(rest)}</span></dd></div>"


def _fact(label: str, value: str) -> str:
    return f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"


def _list(sentences: Sequence[str], style: str) -> str:
    items = "".join(f"<li>{escape(s)}</li>" for s in sentences)
    return f'<ul class="{style}">{items}</ul>' if items else ""


def _work(by_kind: Mapping[str, tuple[float, float, int]]) -> str:
    """A table with a bar for the share of each kind in FLOPs, traffic and kernels; the most traffic first."""
    sums = [sum(row[i] for row in by_kind.values()) or 1 for i in range(3)]
    rows = [_head(["kernel", "FLOPs", "traffic", "kernels"])]
    for kind, row in sorted(by_kind.items(), key=lambda item: -item[1][1]):
        texts = human(row[0]), human(row[1], "B"), str(row[2])
        cells = [_share(t, 100 * v / s) for t, v, s in zip(texts, row, sums, strict=True)]
        rows.append(f"<tr><th>{escape(kind)}</th>{''.join(cells)}</tr>")
    return f'<table class="work">{"".join(rows)}</table>' if by_kind else "<p>Not counted.</p>"


def _share(text: str, percent: float) -> str:
    return f'<td title="{percent:.0f} %"><i style="width:{percent:.1f}%"></i><span>{text}</span></td>'


def _front(content: Report) -> str:
    """The nets that no other beats, as predicted, and the chosen one; every column sorts."""
    columns = {c: price for c in map(str, content.front) if c != "latency_ms" and (price := price_in(c))}
    titles = (f"{price.title}{c.removeprefix(price.name)}" for c, price in columns.items())
    verified = {"verdict", "measured_ms"} <= {*content.front} and bool(content.front["measured_ms"].notna().any())
    head = _head(["", "net", content.metric, "latency", *(["verdict"] * verified), *titles])
    rows = content.front.to_dict("records")
    body = "".join(_row(f"front:{i}", row, content, columns, verified) for i, row in enumerate(rows, 1))
    return f'<table class="front">{head}<tbody>{body}</tbody></table>'


def _row(number: str, row: Mapping[Any, Any], content: Report, columns: Mapping[str, Price], verified: bool) -> str:
    star, style = (" ★", ' class="chosen"') if row["id"] == content.chosen else ("", "")
    cells = [
        _cell(int(number.split(":")[1]), number),
        f"<td><code>{escape(str(row['id']))}</code>{star}</td>",
        _cell(row[content.metric], quality_text(row[content.metric], content.metric)),
        _cell(row["latency_ms"], latency(row)),
        *([f"<td>{escape(row['verdict'])}</td>"] if verified else []),
        *(_cell(row[c], price_text(row, c, price)) for c, price in columns.items()),
    ]
    return f"<tr{style}>{''.join(cells)}</tr>"


def _cell(value: float, text: str) -> str:
    return f'<td data-value="{value:g}">{escape(text)}</td>'


def _head(names: Sequence[str]) -> str:
    return f"<thead><tr>{''.join(f'<th>{escape(n)}</th>' for n in names)}</tr></thead>"
