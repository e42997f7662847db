"""The page of a profile: its facts with their sources, and its calibration plot. One file that loads nothing."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from .device import Device
from .facts import (
    Compared,
    calibration_rows,
    compare,
    conflict_rows,
    error_rows,
    key_rows,
    support_rows,
)
from .holdout import error_of, factor

POINT, BAND, DIAGONAL = "#3b82f6", "rgba(59,130,246,0.13)", "#94a3b8"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"
PLOT = Template(
    "<section><h2>Predicted against published</h2><p>Each dot is a net, predicted from the others; bars and band are "
    "90 % intervals. Point at a dot to see its name.</p>$figure</section>"
)


def device_page(device: Device) -> str:
    """The page as HTML. Predictions on it are of nets that were left out."""
    compared = compare(device)
    slots = {
        "title": escape(f"{device.name}: {device.title}"),
        "plotly": get_plotlyjs() if compared else "",
        "notes": "".join(f"<li>{escape(note)}</li>" for note in device.notes),
        "key": _facts(key_rows(device)),
        "error": _facts(error_rows(device, error_of(device))),
        "spec": _spec(device),
        "supports": _facts(support_rows(device)) or "<p>Not stated.</p>",
        "calibration": _facts(calibration_rows(device)),
        "conflicts": _facts(conflict_rows(device)) or "<p>None.</p>",
        "plot": PLOT.substitute(figure=_div(calibration_figure(device, compared))) if compared else "",
        "points": _points(device, compared),
    }
    return Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(slots)


def calibration_figure(device: Device, compared: Sequence[Compared]) -> go.Figure:
    """Predicted (from the other points) against published, logarithmic; the band is the 90 % interval."""
    unit = "frames per second" if device.batch_mode == "throughput" else "ms"
    ends = min(c.published for c in compared) / 1.3, max(c.published for c in compared) * 1.3
    times = factor(device)
    figure = go.Figure()
    upper, lower = [[end * f for end in ends] for f in (times, 1 / times)]
    band = {"x": [*ends, *reversed(ends)], "y": [*upper, *reversed(lower)], "fill": "toself", "fillcolor": BAND}
    figure.add_scatter(**band, mode="none", name=f"90 % band (x or / {times:.2f})", hoverinfo="skip")
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": DIAGONAL, "dash": "dash"}, name="equal", hoverinfo="skip"
    )
    figure.add_scatter(
        x=[c.published for c in compared],
        y=[c.predicted for c in compared],
        error_y=_bars(compared),
        mode="markers",
        marker={"color": POINT, "size": 8, "line": {"color": "white", "width": 1}},
        hovertext=[_hover(c, unit) for c in compared],
        hoverinfo="text",
        name="net, predicted from the others",
    )
    for axis, title in ((figure.update_xaxes, "published"), (figure.update_yaxes, "predicted")):
        axis(type="log", title=f"{title} ({unit})", dtick="D1" if ends[1] / ends[0] < 30 else 1, automargin=True)
    return figure.update_layout(
        template="none",
        height=520,
        margin={"l": 64, "r": 16, "t": 16, "b": 90},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        hoverlabel={"align": "left", "font": {"family": FONT}},
    )


def _bars(compared: Sequence[Compared]) -> dict[str, object]:
    above, below = [c.high - c.predicted for c in compared], [c.predicted - c.low for c in compared]
    colour = "rgba(59,130,246,0.35)"
    return {"array": above, "arrayminus": below, "symmetric": False, "color": colour, "thickness": 1.2, "width": 0}


def _hover(c: Compared, unit: str) -> str:
    batch = f", batch {c.net.batch}" if c.net.batch > 1 else ""
    lines = [f"<b>{escape(c.net.model)}</b>, {escape(c.net.input)}{batch}", f"published {c.published:.4g} {unit}"]
    return "<br>".join([*lines, f"predicted {c.predicted:.4g} ({c.low:.3g} to {c.high:.3g}) {unit}"])


def _div(figure: go.Figure) -> str:
    config = {"displayModeBar": False, "responsive": True}
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id="calibration", config=config)
    return html


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in rows)
    return f'<dl class="facts">{items}</dl>' if items else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _spec(device: Device) -> str:
    rows = [
        (name, f"{v.value:g} {unit}", v.kind, v.source, v.date or "", v.note or "")
        for name, unit, v in device.spec.rows()
    ]
    return _table(["what", "value", "kind", "source", "date", "note"], rows) if rows else "<p>Not stated.</p>"


def _points(device: Device, compared: Sequence[Compared]) -> str:
    if not compared:
        return ""
    unit = "per s" if device.batch_mode == "throughput" else "ms"
    rows = [
        (c.net.model, c.net.input, str(c.net.batch), f"{c.published:.4g}", f"{c.predicted:.4g}",
         f"{100 * (c.predicted / c.published - 1):+.0f} %", c.net.trust, c.net.source)
        for c in compared
    ]  # fmt: skip
    head = ["net", "input", "batch", f"published ({unit})", f"predicted ({unit})", "off by", "trust", "source"]
    table = _table(head, rows)
    return f'<section class="points"><h2>Points</h2><div class="scroll">{table}</div></section>'
