"""What all figures have in common."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from crysmm.data.scaler import TargetScaler, class_label
from crysmm.report.errors import CrystalErrors, Group
from crysmm.report.html import number, share
from crysmm.runs.plots import BASELINES, MEASURES, TITLES

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


MOST_POINTS = 1500
WORST_DRAWN = 10
MOST_BINS = 50  # of a histogram


@dataclass(frozen=True)
class Points:
    """A split in a scatter plot.

    Args:
        split: ``train``, ``val`` or ``test``.
        target: ``[n]`` of one target, original units.
        prediction: ``[n]``.
        ids: one a crystal.
        formulas: one a crystal.
    """

    split: str
    target: np.ndarray
    prediction: np.ndarray
    ids: Sequence[str]
    formulas: Sequence[str]

    @cached_property
    def drawn(self) -> np.ndarray:
        """Places of the crystals that are drawn, the same every time."""
        if len(self.target) <= MOST_POINTS:
            return np.arange(len(self.target))
        chosen = np.random.default_rng(0).choice(len(self.target), MOST_POINTS, replace=False)
        return np.union1d(chosen, np.argsort(-np.abs(self.prediction - self.target))[:WORST_DRAWN])

    @property
    def style(self) -> dict[str, Any]:
        """How plotly draws them; ids are escaped, since plotly reads a little HTML."""
        many = len(self.drawn) > 300
        return {
            "mode": "markers",
            "name": TITLES[self.split],
            "marker": {"color": COLORS[self.split], "size": 5 if many else 8, "opacity": 0.5 if many else 0.75},
            "customdata": [[html.escape(self.ids[place]), self.formulas[place]] for place in self.drawn],
        }


def parity(name: str, splits: Sequence[Points], *, logarithmic: bool) -> Figure:
    """Predictions of one target against the truth, the last split on top; the training split waits in the legend."""
    values = np.concatenate([array for points in splits for array in (points.target, points.prediction)])
    ends = np.array([values.min(), values.max()])
    low, high = np.log10(ends) if logarithmic else ends
    margin = 0.04 * (high - low) or 0.5
    limits = [low - margin, high + margin]
    figure = new_drawing(f"{name}, target{UNIT}", f"{name}, prediction{UNIT}")
    diagonal = [10**end for end in limits] if logarithmic else limits
    figure.add_scatter(x=diagonal, y=diagonal, mode="lines", line=thin_line(), hoverinfo="skip", showlegend=False)
    for points in splits:
        figure.add_scatter(
            x=points.target[points.drawn],
            y=points.prediction[points.drawn],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>target %{x:.4g}<br>prediction %{y:.4g}",
            visible="legendonly" if points.split == "train" else True,
            **points.style,
        )
    figure.update_xaxes(range=limits, constrain="domain", **(log_axis(*ends) if logarithmic else {}))
    figure.update_yaxes(range=limits, constrain="domain", scaleanchor="x", **(log_axis(*ends) if logarithmic else {}))
    shown = splits[-1]
    error = np.abs(shown.prediction - shown.target).mean()
    alt = f"Predictions of {name} against the targets; the mean absolute error of the {TITLES[shown.split]} split is "
    note = f"A click on a split in the legend shows or hides it. {_sampled(splits)}".strip()
    return Figure("Prediction against target", figure, f"{alt}{number(error)}.", note, 460)


def error_spread(name: str, points: Points, *, logarithmic: bool) -> Figure:
    """Signed errors of one split against the target, and beside them how often each occurs."""
    what = "log10(prediction / target)" if logarithmic else "prediction minus target"
    error = np.log10(points.prediction / points.target) if logarithmic else points.prediction - points.target
    figure = new_drawing(f"{name}, target{UNIT}", what if logarithmic else f"{what}{UNIT}")
    figure.add_scatter(
        x=points.target[points.drawn],
        y=error[points.drawn],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>target %{x:.4g}<br>error %{y:.4g}<extra></extra>",
        showlegend=False,
        **points.style,
    )
    counts, edges = np.histogram(error, min(MOST_BINS, 5 + math.isqrt(len(error))))
    figure.add_bar(
        x=counts,
        y=(edges[:-1] + edges[1:]) / 2,
        width=np.diff(edges),
        orientation="h",
        xaxis="x2",
        marker={"color": COLORS[points.split], "line": {"width": 0}},
        hovertemplate="%{x} crystals with errors around %{y:.3g}<extra></extra>",
        showlegend=False,
    )
    if logarithmic:
        figure.update_xaxes(log_axis(points.target.min(), points.target.max()))
    figure.update_xaxes(domain=[0, 0.76])
    figure.update_layout(
        xaxis2={**axis("crystals"), "domain": [0.79, 1], "nticks": 3, "rangemode": "tozero", "showline": False},
        bargap=0,
        shapes=[{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": thin_line()}],
    )
    quarter, half, three_quarters = np.percentile(error, [25, 50, 75])
    facts = f"mean {number(error.mean())}, median {number(half)}, the middle half {number(quarter)} to "
    note = f"Of all {len(error):,} crystals: {facts}{number(three_quarters)}."
    alt = f"Errors, {what}, of the {TITLES[points.split]} split against the target, with their histogram. {note}"
    return Figure(f"Errors of the {TITLES[points.split]} split", figure, alt, note, 460)


def _sampled(splits: Sequence[Points]) -> str:
    """Which points are left out, if any are."""
    parts = [
        f"{len(points.drawn):,} of {len(points.target):,} {TITLES[points.split]} crystals"
        for points in splits
        if len(points.drawn) < len(points.target)
    ]
    return f"Drawn at random, with the {WORST_DRAWN} farthest off: {', '.join(parts)}." if parts else ""


CONFIDENCE_BINS = 10
CURVE_POINTS = 200
MOST_LABELLED = 12  # classes whose confusions have their counts written


def confusions(scaler: TargetScaler, truth: np.ndarray, predicted: np.ndarray, split: str) -> Figure:
    """How often which class ``[n]`` is taken for which."""
    labels = _class_labels(scaler)
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_drawing("predicted class", "class")
    figure.add_heatmap(
        z=shares,
        x=labels,
        y=labels,
        text=[[f"{count:,}" for count in row] for row in counts],
        texttemplate="%{text}" if len(labels) <= MOST_LABELLED else None,
        textfont={"size": 16},
        colorscale=[[0, "rgba(59,130,196,0.08)"], [1, "rgba(59,130,196,0.95)"]],
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        showscale=False,
        hovertemplate="class %{y}, predicted %{x}: %{text} crystals, %{z:.1%} of the class<extra></extra>",
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    alt = f"Table of {len(labels)} classes against predicted classes; {np.trace(counts):,} of {len(truth):,} are right."
    note = f"Crystals of the {TITLES[split]} split; the darker, the larger their share of the class."
    return Figure("Classes and predicted classes", figure, alt, note)


def roc_curves(scaler: TargetScaler, truth: np.ndarray, probabilities: np.ndarray) -> Figure | None:
    """Receiver operating characteristic of each class; None where no class has crystals inside and outside it."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = new_drawing("false positive rate", "true positive rate")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=thin_line(), hoverinfo="skip", showlegend=False)
    areas = []
    for place, label in _classes_of_curves(scaler):
        is_class = truth == place
        if is_class.all() or not is_class.any():
            continue
        false, true, _ = roc_curve(is_class, probabilities[:, place])
        kept = np.unique(np.linspace(0, len(false) - 1, CURVE_POINTS).astype(int))
        areas.append(f"class {label}: area {roc_auc_score(is_class, probabilities[:, place]):.3f}")
        figure.add_scatter(
            x=false[kept],
            y=true[kept],
            mode="lines",
            name=areas[-1],
            showlegend=True,
            line={"color": LINES[len(areas) - 1], "width": 2},
            hovertemplate="false positives %{x:.1%}, true positives %{y:.1%}<extra></extra>",
        )
    if not areas:
        return None
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", dtick=0.25, constrain="domain")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%", dtick=0.25, scaleanchor="x", constrain="domain")
    return Figure("ROC curve", figure, f"ROC curve: {'; '.join(areas)}.", "Diagonal: guessing.")


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Whether the most probable class is right as often as its probability says."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    lowest = 1 / probabilities.shape[1]
    edges = np.linspace(lowest, 1, CONFIDENCE_BINS + 1)
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, CONFIDENCE_BINS - 1)
    counts = np.bincount(bins, minlength=CONFIDENCE_BINS)
    filled = np.flatnonzero(counts)
    said = np.bincount(bins, confidence, CONFIDENCE_BINS)[filled] / counts[filled]
    held = np.bincount(bins, right, CONFIDENCE_BINS)[filled] / counts[filled]
    figure = new_drawing("probability of the predicted class", "share that is right")
    figure.add_scatter(x=[lowest, 1], y=[lowest, 1], mode="lines", line=thin_line(), hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        x=said,
        y=held,
        customdata=counts[filled],
        mode="markers+lines",
        line={"color": COLORS["test"], "width": 1.5},
        marker={"color": COLORS["test"], "size": 6 + 14 * np.sqrt(counts[filled] / counts.max())},
        hovertemplate="%{customdata:,} crystals: %{x:.1%} said, %{y:.1%} right<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(range=[lowest - 0.03, 1.03], tickformat=".0%")
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    alt = f"Probabilities of the predicted classes, on average {share(confidence.mean())}, against the share right, "
    note = "On the line, probabilities are what they say; the size of a point says how many crystals it stands for."
    return Figure("Are the probabilities right?", figure, f"{alt}{share(right.mean())}.", note)


def _class_labels(scaler: TargetScaler) -> list[str]:
    return [class_label(value) for value in scaler.classes or ()]


def _classes_of_curves(scaler: TargetScaler) -> list[tuple[int, str]]:
    """Places and labels of the classes that have a curve: of two the second, of many the first few."""
    labels = list(enumerate(_class_labels(scaler)))
    return labels[1:] if len(labels) == 2 else labels[: len(LINES)]


def by_group(title: str, groups: Sequence[Group], errors: CrystalErrors, note: str = "") -> Figure:
    """Mean errors of groups of crystals, the first on top, with their standard errors."""
    figure = new_drawing(f"{errors.measure}{UNIT}" if errors.measure == "MAE" else errors.measure, "")
    uncertainties = [group.uncertainty or 0 for group in groups]
    figure.add_bar(
        y=[f"{group.name} ({group.n:,})" for group in groups],
        x=[group.error for group in groups],
        orientation="h",
        marker={"color": COLORS["test"], "line": {"width": 0}},
        error_x={"array": uncertainties, "color": GREY, "thickness": 1.2, "width": 4},
        text=[errors.text(group.error) for group in groups],
        hovertemplate="%{y} crystals: %{text}<extra></extra>",
        textposition="none",
        showlegend=False,
    )
    mean = errors.mean
    figure.update_layout(
        shapes=[
            {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": mean, "x1": mean, "line": thin_line(dash="dash")}
        ],
        bargap=0.35,
    )
    farthest = max(group.error + uncertainty for group, uncertainty in zip(groups, uncertainties, strict=True))
    figure.update_xaxes(range=[0, 1.05 * max(farthest, mean) or 1])
    if errors.measure == "error rate":
        figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    listed = "; ".join(f"{group.name}: {errors.text(group.error)} of {group.n}" for group in groups)
    note = f"{note} Dashed: all crystals, {errors.text(mean)}. Bars with standard errors; crystals in brackets.".strip()
    return Figure(title, figure, f"{errors.measure}. {listed}.", note, 110 + 38 * len(groups))


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
