"""How training went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crysmm.report.figures.base import COLORS, LINES, UNIT, Figure, log_axis, new_drawing, thin_line
from crysmm.report.numbers import number
from crysmm.runs.plots import BASELINES, MEASURES, TITLES

if TYPE_CHECKING:
    import plotly.graph_objects

History = Sequence[Mapping[str, float]]
"""A row an epoch."""


def losses(history: History) -> Figure:
    """The loss that is minimised, epoch by epoch."""
    figure = new_drawing("epoch", "loss")
    for split in ("train", "val"):
        _add_curve(figure, history, f"{split}_loss", TITLES[split], COLORS[split])
    values = [loss for row in history for loss in (row["train_loss"], row["val_loss"]) if np.isfinite(loss)]
    if 0 < 10 * min(values) < max(values):
        figure.update_yaxes(log_axis(min(values), max(values)))
    first, last = history[0], history[-1]
    changes = (
        f"of the {TITLES[split]} split from {number(first[f'{split}_loss'])} to {number(last[f'{split}_loss'])}"
        for split in ("train", "val")
    )
    return Figure("Loss", figure, f"Loss by epoch, {', '.join(changes)}.")


def monitored(history: History, measure: str, best_epoch: int, baseline: float | None) -> Figure:
    """The measure that chooses the epoch, against what it is without a network."""
    title = MEASURES[measure].capitalize()
    figure = new_drawing("epoch", _with_unit(measure))
    values = [row[f"val_{measure}"] for row in history]
    _add_curve(figure, history, f"val_{measure}", TITLES["val"], COLORS["val"])
    best = values[best_epoch - 1]
    figure.add_scatter(
        x=[best_epoch],
        y=[best],
        mode="markers",
        name=f"best, epoch {best_epoch}: {number(best)}",
        marker={"color": COLORS["test"], "size": 10},
        hoverinfo="skip",
    )
    if baseline is not None:
        epochs = [history[0]["epoch"], max(history[-1]["epoch"], 2)]
        name = f"{BASELINES[measure]}: {number(baseline)}"
        figure.add_scatter(x=epochs, y=[baseline, baseline], mode="lines", name=name, line=thin_line(dash="dash"))
        finite = [value for value in values if np.isfinite(value)]
        figure.update_yaxes(range=[0, 1.05 * min(max([*finite, baseline]), 3 * max(baseline, best))])
    alt = f"{title} of the validation split by epoch; the best is {number(best)} in epoch {best_epoch}."
    return Figure(f"{title} of the validation split", figure, alt)


def other_measure(history: History, column: str) -> Figure:
    """Another column of the history: the share of wrong classes, or a teacher's part of the loss."""
    name = "error rate" if column == "val_error" else column.removeprefix("val_").replace("_", " ")
    figure = new_drawing("epoch", name)
    _add_curve(figure, history, column, TITLES["val"], COLORS["val"])
    figure.update_yaxes(rangemode="tozero")
    title = f"{name.capitalize()} of the validation split"
    change = f"from {number(history[0][column])} to {number(history[-1][column])}"
    return Figure(title, figure, f"{title} by epoch, {change}.")


def of_members(histories: Mapping[str, History], measure: str) -> Figure:
    """The monitored measure of each member of an ensemble."""
    title = MEASURES[measure].capitalize()
    figure = new_drawing("epoch", _with_unit(measure))
    for place, (name, history) in enumerate(histories.items()):
        _add_curve(figure, history, f"val_{measure}", name.replace("_", " "), LINES[place % len(LINES)])
    best = min(row[f"val_{measure}"] for history in histories.values() for row in history)
    alt = f"{title} of the validation split by epoch, of {len(histories)} members; the lowest is {number(best)}."
    return Figure(f"{title} of the validation split, member by member", figure, alt)


def _add_curve(figure: plotly.graph_objects.Figure, history: History, column: str, name: str, color: str) -> None:
    figure.add_scatter(
        x=[row["epoch"] for row in history],
        y=[row[column] for row in history],
        mode="lines+markers" if len(history) < 3 else "lines",
        name=name,
        line={"color": color, "width": 2},
        hovertemplate="epoch %{x}: %{y:.4g}",
    )


def _with_unit(measure: str) -> str:
    return f"{MEASURES[measure]}{UNIT}" if measure == "mae" else MEASURES[measure]
