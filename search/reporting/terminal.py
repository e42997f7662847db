"""The answer of a search as tables."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from rich.table import Table

from ...values import count_text
from ..answer import Answer
from ..costs import metric_of
from ..pipeline import Choice
from ..verify import CHOSEN, FITS
from .analysis import Analysis

SHOWN = 12
SHOWN_ANYWAY = ("latency_ms", "params", "flops")
LEFT = ("front:N", "id", "verdict")


def facts_table(answer: Answer) -> Table:
    """What is known of the chosen net."""
    table = Table(title=f"Net {answer.architecture.id}", show_header=False, title_justify="left")
    for name, value in answer.facts.items():
        table.add_row(name, value)
    return table


def front_table(choice: Choice) -> Table:
    """The first nets of the front, best first, and the chosen one, with a star; what was measured beside what was
    predicted, and what came of it."""
    rows = [row for i, row in enumerate(choice.front.to_dict("records"), 1) if i <= SHOWN or _is_chosen(choice, row)]
    more = f", the first {SHOWN}" if len(choice.front) > SHOWN else ""
    table = Table(title=f"Front ({len(choice.front)} nets{more})", title_justify="left")
    minimised = {n: metric for n in choice.study.problem.objectives if (metric := metric_of(n))}
    extra = {n: m.label + n.removeprefix(m.name) for n, m in minimised.items() if n not in SHOWN_ANYWAY}
    verified = ("measured ms", "verdict") if choice.front["measured_ms"].notna().any() else ()
    for column in (
        "front:N", "id", choice.metric.label, "latency ms", "90 % interval", *verified, *extra.values(), "params",
        *(() if verified else ("FLOPs",)),  # front.csv has all; a terminal has 80 columns
    ):  # fmt: skip
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=column == "id")
    for row in rows:
        table.add_row(*_cells(choice, row, bool(verified), list(extra)))
    return table


def _is_chosen(choice: Choice, row: Mapping[Any, Any]) -> bool:
    return bool(row["id"] == choice.architecture.id)


def _cells(choice: Choice, row: Mapping[Any, Any], verified: bool, extra: Sequence[str]) -> list[str]:
    place = [net.id for net in choice.front_architectures].index(row["id"]) + 1
    mark = f"{place} *" if _is_chosen(choice, row) else str(place)
    interval = f"{row['latency_low_ms']:.3g} to {row['latency_high_ms']:.3g}"
    took = "" if not verified or isnan(row["measured_ms"]) else f"{row['measured_ms']:.3g}"
    verdict = row["verdict"] if row["verdict"] in ("", CHOSEN, FITS) else "too slow"
    return [
        mark, row["id"], choice.metric.text(row[choice.metric.name]), f"{row['latency_ms']:.3g}", interval,
        *((took, verdict) if verified else ()), *(f"{row[n]:.3g}" for n in extra), count_text(row["params"]),
        *(() if verified else (count_text(row["flops"]),)),
    ]  # fmt: skip


def comparison_table(analysis: Analysis) -> Table:
    """The search beside its baselines."""
    table = Table(title="Beside the baselines, as predicted", title_justify="left")
    metric = analysis.metric
    for column in ("search", "nets", "hypervolume", "front", f"best {metric.label}", "latency ms"):
        table.add_column(column, justify="left" if column == "search" else "right")
    for row in analysis.comparison.to_dict("records"):
        none = row["id"] is None
        result = ("none fits", "") if none else (metric.text(row["best"]), f"{row['latency_ms']:.3g}")
        counted = (str(row["evaluations"]), f"{row['hypervolume']:.4f}", str(row["front"]))
        table.add_row(str(row["search"]), *counted, *result)
    return table
