"""The interactive figures of the report (plotly). The page sets the colours of text and grid, for light and dark."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...pages import styled
from ...values import LATENCY, Metric
from ..costs import metric_of
from ..pareto import non_dominated
from .drawing import groups
from .glyphs import shown

GREY, FRONT, CHOSEN, BUDGET, LARGEST = "#94a3b8", "#3b82f6", "#f59e0b", "#ef4444", "#14b8a6"
OTHERS = "#8b5cf6", LARGEST, "#ec4899", "#84a21c"
HOVERED_GENES = 1000
"""Above so many trials, only those of the front show their genes: the file stays small."""
CURVE_POINTS = 1000
LOSS_TICKS = [digit * 10.0**power for power in range(-6, 6) for digit in (1, 2, 5)]


def pareto_figure(
    trials: pd.DataFrame,
    front: pd.DataFrame,
    *,
    metric: Metric,
    chosen: str,
    budget_ms: float | None,
    genes: Sequence[str],
    others: Mapping[str, pd.DataFrame] | None = None,
) -> go.Figure:
    """Quality against latency of every net that was evaluated; bars are the intervals of the latency.

    others: fronts of other searches by name, drawn dotted.
    """
    known = trials.dropna(subset=[metric.name, "latency_ms"])
    front = front.sort_values("latency_ms")
    fits, named = known["feasible"].astype(bool), genes if len(known) <= HOVERED_GENES else ()
    figure = go.Figure()
    outline = {"color": "rgba(0,0,0,0)", "line": {"color": GREY, "width": 1.2}, "size": 7}
    for name, rows, marker in (
        ("breaks a limit", known[~fits], outline),
        ("keeps the limits", known[fits], {"color": GREY, "size": 7, "opacity": 0.75}),
    ):
        figure.add_trace(_points(rows, metric, named, name=name, marker=marker))
    line = {"color": FRONT, "width": 2, "shape": "hv"}
    marks = {"color": FRONT, "size": 8}
    stairs = _stairs(front, metric)
    if len(stairs) < len(front):  # on the front by another objective than these two
        beside = front[~front["id"].isin(stairs["id"])]
        hollow = {"color": "rgba(0,0,0,0)", "line": {"color": FRONT, "width": 1.5}, "size": 8}
        figure.add_trace(_points(beside, metric, genes, name="front, by other objectives", marker=hollow))
    figure.add_trace(
        _points(stairs, metric, genes, name="front", mode="lines+markers", line=line, marker=marks)
        .update(error_x=_interval(stairs, "rgba(59,130,246,0.4)"))
    )  # fmt: skip
    best = known[known["id"] == chosen].head(1)
    star = {"color": CHOSEN, "size": 18, "symbol": "star", "line": {"color": "#78350f", "width": 1}}
    figure.add_trace(_points(best, metric, genes, name="chosen", marker=star).update(error_x=_interval(best, CHOSEN)))
    for (name, rows), colour in zip((others or {}).items(), OTHERS, strict=False):
        line, marks = {"color": colour, "width": 1.5, "shape": "hv", "dash": "dot"}, {"color": colour, "size": 5}
        ordered = _stairs(rows.sort_values("latency_ms"), metric)
        figure.add_trace(_points(ordered, metric, genes, name=name, mode="lines+markers", line=line, marker=marks))
    figure.update_xaxes(title="latency (ms)", range=_range(known, front, budget_ms))
    figure.update_yaxes(
        title=metric.label,
        tickformat=".1~%" if all(metric.text(v).endswith("%") for v in known[metric.name]) else None,
    )
    if budget_ms is not None:
        _mark_budget(figure, budget_ms)
    return styled(figure, 460)


def training_figure(history: Sequence[Mapping[str, float]]) -> go.Figure:
    """Losses (logarithmic; smoothed over a fiftieth of the run, raw ones faint) above the learning rate."""
    table = pd.DataFrame(list(history)).reindex(columns=["step", "loss", "largest_loss", "lr"]).astype(float)
    smooth = table.ewm(span=max(2, len(table) / 50)).mean()
    every = max(1, len(table) // CURVE_POINTS)
    steps = table["step"][::every]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.06)
    for column, name, colour in (("loss", "sampled nets", FRONT), ("largest_loss", "largest net", LARGEST)):
        if table[column].notna().any():
            raw = {"color": colour, "width": 1}
            faint = go.Scatter(x=steps, y=table[column][::every], line=raw, opacity=0.25, showlegend=False)
            figure.add_trace(faint.update(hoverinfo="skip", mode="lines"), row=1, col=1)
            curve = go.Scatter(x=steps, y=smooth[column][::every], line={"color": colour, "width": 2.5}, name=name)
            figure.add_trace(curve.update(mode="lines"), row=1, col=1)
    rate = go.Scatter(x=steps, y=table["lr"][::every], line={"color": GREY, "width": 2}, showlegend=False)
    figure.add_trace(rate.update(mode="lines", name="learning rate"), row=2, col=1)
    figure.update_yaxes(type="log", title="loss", tickvals=LOSS_TICKS, row=1, col=1)
    figure.update_yaxes(title="rate", rangemode="tozero", nticks=3, row=2, col=1)
    figure.update_xaxes(title="step", row=2, col=1)
    return styled(figure, 420).update_layout(hovermode="x unified")


def _stairs(front: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The nets that are on the front by latency and metric alone; a line through others would go up and down."""
    return front[non_dominated(np.column_stack([front["latency_ms"], metric.sign * front[metric.name]]))]


def _points(rows: pd.DataFrame, metric: Metric, genes: Sequence[str], **style: Any) -> go.Scatter:
    hover = [_hover(row, metric, genes) for row in rows.to_dict("records")]
    style.setdefault("mode", "markers")
    return go.Scatter(x=rows["latency_ms"], y=rows[metric.name], hovertext=hover, hoverinfo="text", **style)


def _hover(row: Mapping[Any, Any], metric: Metric, genes: Sequence[str]) -> str:
    """Lines about one net: what was found out about it, then its genes, a line for each part."""
    lines = [
        f"<b>{escape(str(row['id']))}</b>",
        f"{escape(metric.name)} {metric.text(row[metric.name])}",
        latency(row),
    ]
    others = {c: m for c in row if c not in ("latency_ms", "params", "flops") and (m := metric_of(str(c)))}
    lines += [escape(f"{m.title}{str(c).removeprefix(m.name)} {m.text(row[c])}") for c, m in others.items()]
    for group, names in groups(n for n in genes if n in row and row[n] is not None and not pd.isna(row[n])).items():
        values = [f"{name.removeprefix(group).removeprefix('.') or name} {shown(row[name])}" for name in names]
        lines.append(escape(f"{group + ': ' if group else ''}{', '.join(values)}"))
    return "<br>".join(lines)


def latency(row: Mapping[Any, Any]) -> str:
    """Latency as text, with its interval and what was measured where these are known."""
    interval = f" ({row['latency_low_ms']:.3g} to {row['latency_high_ms']:.3g})" if "latency_low_ms" in row else ""
    measured = row.get("measured_ms")
    seen = "" if measured is None or pd.isna(measured) else f", measured {LATENCY.text(measured)}"
    return f"{LATENCY.text(row['latency_ms'])}{interval}{seen}"


def cost_text(row: Mapping[Any, Any], column: str, metric: Metric) -> str:
    """A cost as text, with its interval where it is known."""
    low, high = (row.get(metric.column(end)) for end in ("low", "high"))
    interval = "" if low is None or column != metric.name else f" ({low:.3g} to {high:.3g})"
    return f"{metric.text(row[column])}{interval}"


def _interval(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    if "latency_low_ms" not in rows:
        return {}
    above, below = rows["latency_high_ms"] - rows["latency_ms"], rows["latency_ms"] - rows["latency_low_ms"]
    return {"array": above, "arrayminus": below, "symmetric": False, "color": colour, "thickness": 1.5, "width": 3}


def _range(trials: pd.DataFrame, front: pd.DataFrame, budget_ms: float | None) -> list[float] | None:
    """From the fastest to the slowest net, intervals included; a budget far beyond does not squeeze them."""
    ends = [c for c in ("latency_low_ms", "latency_high_ms") if c in front]
    values = pd.concat([trials["latency_ms"], *(front[c] for c in ends)])
    values = values[np.isfinite(values)]  # an interval may be open
    if values.empty:
        return None
    low, high = float(values.min()), float(values.max())
    if budget_ms is not None and budget_ms < 1.5 * high:
        low, high = min(low, budget_ms), max(high, budget_ms)
    margin = 0.05 * (high - low) or 0.1 * high
    return [max(0.0, low - margin), high + margin]


def _mark_budget(figure: go.Figure, budget_ms: float) -> None:
    span = figure.layout.xaxis.range
    words, colour = f"budget {LATENCY.text(budget_ms)}", {"color": BUDGET}
    if span is not None and budget_ms > span[1]:
        figure.add_annotation(x=1, y=1, xref="paper", yref="paper", xanchor="right", yanchor="bottom", showarrow=False,
                              text=f"{words}, beyond this view →", font=colour)  # fmt: skip
        return
    figure.add_vline(budget_ms, line={"color": BUDGET, "width": 1.5, "dash": "dash"})
    right = span is None or budget_ms < sum(span) / 2
    figure.add_annotation(x=budget_ms, y=1, yref="paper", yanchor="bottom", xanchor="left" if right else "right",
                          showarrow=False, text=words, font=colour)  # fmt: skip
