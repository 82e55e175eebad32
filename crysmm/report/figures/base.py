"""What all figures have in common."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects

COLORS = {"train": "#8f9bab", "val": "#e08e3c", "test": "#3b82c4"}  # seen on white and on black
GREY = "#7d8794"
LINES = ("#3b82c4", "#e08e3c", "#4c9f70", "#c25b7c", "#8a6fc1", "#8d7b5e", "#2f9ea8", "#b0a030")
UNIT = " (unit of the input)"


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Args:
        title: above it.
        drawing: for plotly.
        alt: what it shows, for those who do not see it.
        note: below it; may be empty.
        height: pixels.
    """

    title: str
    drawing: plotly.graph_objects.Figure
    alt: str
    note: str = ""
    height: int = 400


def new_drawing(x_title: str, y_title: str) -> plotly.graph_objects.Figure:
    """A figure with nothing in it but its axes."""
    from plotly.graph_objects import Figure as Drawing

    return Drawing(
        layout={
            "template": "none",
            "margin": {"l": 56, "r": 12, "t": 34, "b": 48},
            "xaxis": axis(x_title),
            "yaxis": axis(y_title),
            "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
            "hoverlabel": {"align": "left"},
        }
    )


def axis(title: str) -> dict[str, Any]:
    """An axis of numbers; the title is escaped, since plotly reads a little HTML."""
    return {
        "title": {"text": html.escape(title), "standoff": 8, "font": {"size": 13}},
        "automargin": True,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "showline": True,
    }


def log_axis(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis with ticks people can read: 0.1, 0.2, 0.5, ...; over many decades, 0.1, 1, 10, ..."""
    decades = math.log10(high / low)
    if decades < 0.8:
        return {"type": "log"}
    steps = (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def thin_line(dash: str = "solid") -> dict[str, Any]:
    """The style of lines that are no data."""
    return {"color": GREY, "width": 1, "dash": dash}
