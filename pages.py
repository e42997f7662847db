"""HTML pages: a Jinja2 template filled with plain data, written as one file that loads nothing from anywhere.

Text is escaped by the template; only `markupsafe.Markup` is taken as it is. Figures share one look, and the page hands
them its colours, for light and dark.
"""

from functools import cache
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

FONT = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"


def render(template: str, **content: object) -> str:
    """The page. template: file in `templates/`, which extends `base.html`."""
    return _environment().get_template(template).render(content)


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The look that all figures share; `height` in pixels."""
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(zeroline=False, title_standoff=8, automargin=True)
    return figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 12, "t": 24, "b": 76},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        hoverlabel={"align": "left", "font": {"family": FONT}},
    )


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["plot"] = _plot
    made.globals["plotly_js"] = lambda: Markup(get_plotlyjs())
    return made


def _plot(figure: go.Figure, name: str) -> Markup:
    """The `<div>` and script of a figure. name: id of the element."""
    config = {"displayModeBar": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config))
