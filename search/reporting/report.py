"""report.html: one page, in one file, that says what a search found. It loads nothing from anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from ...files import write_atomic
from ...pages import render
from ...search_space.architecture import Architecture
from ...search_space.trial import Gene
from ...values import Metric, count_text
from ..costs import metric_of
from . import bits, findings
from .analysis import Analysis
from .drawing import draw
from .facts import Fact
from .plots import cost_text, latency, pareto_figure, training_figure


@dataclass(frozen=True)
class Report:
    """What the page says.

    title: the command. facts: by their label, in the order of reading. notes: sentences that a reader must not miss.
    trials, front: rows with `id`, `metric`, `latency_ms`, `feasible` and the genes; `latency_low_ms`,
        `latency_high_ms`, `measured_ms` and the costs of `costs.COSTS` are shown where they are there.
    chosen: id of the net that is the answer, whose genes are `architecture`. space_genes: those of the space, by name.
    cost_by_kind: kind of kernel -> (FLOPs, bytes, number of kernels). history, events: of the training.
    analysis: of the search; without it the page has no such sections.
    """

    title: str
    metric: Metric
    facts: Mapping[str, Fact]
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
    analysis: Analysis | None = None


def write_report(path: str | PathLike[str], content: Report) -> Path:
    """Write the page, whole or not at all. It opens without a network."""
    analysis = content.analysis
    titles, rows = _front(content)
    return write_atomic(
        path,
        render(
            "report.html",
            title=content.title,
            plots=True,
            report=content,
            tiles=[(label, fact.value, fact.words.lstrip(" ,")) for label, fact in content.facts.items() if fact.value],
            facts=[(label, fact.words) for label, fact in content.facts.items() if not fact.value],
            pareto=_pareto(content),
            drawing=draw(content.architecture, content.space_genes),
            policy=bits.policy(content.architecture, content.space_genes),
            work=_work(content.cost_by_kind),
            front_titles=titles,
            front=rows,
            training=training_figure(content.history) if content.history else None,
            **(_findings(analysis, content) if analysis else {}),
        ),
    )


def _pareto(content: Report) -> go.Figure:
    return pareto_figure(
        content.trials,
        content.front,
        metric=content.metric,
        chosen=content.chosen,
        budget_ms=content.budget_ms,
        genes=list(content.space_genes),
        others=content.analysis.fronts if content.analysis else None,
    )


def _findings(analysis: Analysis, content: Report) -> dict[str, object]:
    by_latency = list(content.front.sort_values("latency_ms")["id"])
    return {
        "at": by_latency.index(content.chosen) if content.chosen in by_latency else None,
        "curve": findings.hypervolume_figure(analysis.curves),
        "comparison": findings.comparison_rows(analysis.comparison, analysis.metric),
        "objectives": [name.removesuffix("_ms") for name in analysis.importances],
        "importances": findings.importance_rows(analysis.importances),
        "strips": findings.strips(analysis.marginals),
    }


def _work(by_kind: Mapping[str, tuple[float, float, int]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """(kind, (text, share) of FLOPs, traffic and kernels), the most traffic first."""
    sums = [sum(row[i] for row in by_kind.values()) or 1 for i in range(3)]
    texts = {
        kind: (count_text(flops), count_text(size, "B"), str(kernels))
        for kind, (flops, size, kernels) in by_kind.items()
    }
    return [
        (kind, [(text, value / total) for text, value, total in zip(texts[kind], row, sums, strict=True)])
        for kind, row in sorted(by_kind.items(), key=lambda item: -item[1][1])
    ]


def _front(content: Report) -> tuple[list[str], list[tuple[str, list[tuple[float | None, str]]]]]:
    """(titles, rows) of the nets that no other beats; a row is (id, cells), a cell (value to sort by, text)."""
    columns = {c: metric for c in map(str, content.front) if c != "latency_ms" and (metric := metric_of(c))}
    verified = {"verdict", "measured_ms"} <= {*content.front} and bool(content.front["measured_ms"].notna().any())
    titles = [f"{metric.title}{c.removeprefix(metric.name)}" for c, metric in columns.items()]
    rows = [
        (
            str(row["id"]),
            [
                (row[content.metric.name], content.metric.text(row[content.metric.name])),
                (row["latency_ms"], latency(row)),
                *([(None, row["verdict"])] if verified else []),
                *((row[c], cost_text(row, c, metric)) for c, metric in columns.items()),
            ],
        )
        for row in content.front.to_dict("records")
    ]
    return ["", "net", content.metric.label, "latency", *(["verdict"] if verified else []), *titles], rows
