"""The page of a profile: its facts with their sources, and its calibration plot. One file that loads nothing."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from ..pages import render, styled
from .device import Device
from .facts import Compared, calibration_rows, compare, conflict_rows, error_rows, key_rows, support_rows
from .holdout import error_of, factor

POINT, BAND, DIAGONAL = "#3b82f6", "rgba(59,130,246,0.13)", "#94a3b8"


def device_page(device: Device) -> str:
    """The page as HTML. Predictions on it are of nets that were left out."""
    compared = compare(device)
    return render(
        "device.html",
        title=f"{device.name}: {device.title}",
        device=device,
        unit="per s" if device.batch_mode == "throughput" else "ms",
        key=key_rows(device),
        error=error_rows(device, error_of(device)),
        spec=[
            (name, f"{v.value:g} {unit}", v.kind, v.source, v.date or "", v.note or "")
            for name, unit, v in device.spec.rows()
        ],
        supports=support_rows(device),
        calibration=calibration_rows(device),
        conflicts=conflict_rows(device),
        plots=bool(compared),
        figure=calibration_figure(device, compared) if compared else None,
        points=[
            (c.net.model, c.net.input, c.net.batch, f"{c.published:.4g}", f"{c.predicted:.4g}",
             f"{100 * (c.predicted / c.published - 1):+.0f} %", c.net.trust, c.net.source)
            for c in compared
        ],
    )  # fmt: skip


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
        axis(type="log", title=f"{title} ({unit})", dtick="D1" if ends[1] / ends[0] < 30 else 1)
    return styled(figure, 520)


def _bars(compared: Sequence[Compared]) -> dict[str, object]:
    above, below = [c.high - c.predicted for c in compared], [c.predicted - c.low for c in compared]
    colour = "rgba(59,130,246,0.35)"
    return {"array": above, "arrayminus": below, "symmetric": False, "color": colour, "thickness": 1.2, "width": 0}


def _hover(c: Compared, unit: str) -> str:
    batch = f", batch {c.net.batch}" if c.net.batch > 1 else ""
    lines = [f"<b>{escape(c.net.model)}</b>, {escape(c.net.input)}{batch}", f"published {c.published:.4g} {unit}"]
    return "<br>".join([*lines, f"predicted {c.predicted:.4g} ({c.low:.3g} to {c.high:.3g}) {unit}"])
