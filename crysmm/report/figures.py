"""Plotly figures of a report: predictions, classes, errors by group, and learning curves.

The page sets the colors of text, grid and background. Scatter plots show at most ``MAX_POINTS`` crystals per split,
drawn at random, and the worst ten; histograms and means are over all crystals.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from crysmm.data.scaler import TargetScaler, class_label
from crysmm.data.units import after_name, after_number, number
from crysmm.report.errors import CrystalErrors, Group
from crysmm.report.html import percentage
from crysmm.runs.metrics import confusions
from crysmm.runs.plots import BASELINES, METRIC_NAMES
from crysmm.runs.run_folder import TITLES

if TYPE_CHECKING:
    import plotly.graph_objects

COLORS = {"train": "#8f9bab", "val": "#e08e3c", "test": "#3b82c4"}  # legible on white and on black
GREY = "#7d8794"
LINES = ("#3b82c4", "#e08e3c", "#4c9f70", "#c25b7c", "#8a6fc1", "#8d7b5e", "#2f9ea8", "#b0a030")
DASHES = ("solid", "dash", "dot")  # for more curves than colors

MAX_POINTS = 1500
WORST_DRAWN = 10
MAX_BINS = 50  # of a histogram
CONFIDENCE_BINS = 10
CURVE_POINTS = 200  # of a ROC curve
MAX_COUNTS = 12  # classes up to which the confusion matrix shows its counts

History = Sequence[Mapping[str, float]]
"""Rows of ``history.csv``, one per epoch."""


@dataclass(frozen=True)
class Figure:
    """Figure of the page.

    Args:
        title: Title above the figure.
        drawing: Plotly figure.
        alt: Description for screen readers.
        note: Caption; may be empty.
        height: Height in pixels.
    """

    title: str
    drawing: plotly.graph_objects.Figure
    alt: str
    note: str = ""
    height: int = 400


def new_drawing(x_title: str, y_title: str) -> plotly.graph_objects.Figure:
    """Return an empty figure with labeled axes."""
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
    """Return the style of an axis; the title is escaped because plotly interprets some HTML tags."""
    return {
        "title": {"text": html.escape(title), "standoff": 8, "font": {"size": 13}},
        "automargin": True,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "showline": True,
    }


def log_axis(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis with ticks at 0.1, 0.2, 0.5, ...; at 0.1, 1, 10, ... over more than 2.5 decades."""
    # Plotly labels intermediate ticks with single digits, which readers take for the values 2 and 5. Its own ticks
    # are used only over less than 0.8 decades, where they are denser than 1, 2, 5.
    decades = math.log10(high / low)
    if decades < 0.8:
        return {"type": "log"}
    steps = (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def thin_line(dash: str = "solid") -> dict[str, Any]:
    """Return the style of reference lines."""
    return {"color": GREY, "width": 1, "dash": dash}


@dataclass(frozen=True)
class Points:
    """One target of the crystals of a split, for scatter plots.

    Args:
        split: ``train``, ``val`` or ``test``.
        target: Targets in original units, ``[n]``.
        prediction: Predictions, ``[n]``.
        ids: Ids of the crystals.
        formulas: Formulas of the crystals.
    """

    split: str
    target: np.ndarray
    prediction: np.ndarray
    ids: Sequence[str]
    formulas: Sequence[str]

    @cached_property
    def drawn(self) -> np.ndarray:
        """Indices of the crystals that are drawn: the worst and a fixed random sample."""
        if len(self.target) <= MAX_POINTS:
            return np.arange(len(self.target))
        # The worst crystals are those that a reader looks for, and a random sample could miss them.
        sample = np.random.default_rng(0).choice(len(self.target), MAX_POINTS, replace=False)
        return np.union1d(sample, np.argsort(-np.abs(self.prediction - self.target))[:WORST_DRAWN])

    @property
    def style(self) -> dict[str, Any]:
        """Plotly style of the points; ids are escaped because plotly interprets some HTML tags."""
        # Many points overlap: small and translucent, they show where most of them are.
        many = len(self.drawn) > 300
        return {
            "mode": "markers",
            "name": TITLES[self.split],
            "marker": {"color": COLORS[self.split], "size": 5 if many else 8, "opacity": 0.5 if many else 0.75},
            "customdata": [[html.escape(self.ids[index]), self.formulas[index]] for index in self.drawn],
        }


def parity(name: str, unit: str | None, splits: Sequence[Points], *, logarithmic: bool) -> Figure:
    """Plot predictions against targets, the last split on top; the training split is hidden at first.

    Args:
        name: Name of the target.
        unit: Unit of the target, if it is known.
        splits: Points of each split.
        logarithmic: True for logarithmic axes.
    """
    values = np.concatenate([array for points in splits for array in (points.target, points.prediction)])
    ends = np.array([values.min(), values.max()])
    low, high = np.log10(ends) if logarithmic else ends
    margin = 0.04 * (high - low) or 0.5  # a single crystal needs an axis of some length
    limits = [low - margin, high + margin]
    figure = new_drawing(f"{name}, target{after_name(unit)}", f"{name}, prediction{after_name(unit)}")
    # Plotly takes the range of a logarithmic axis as exponents, but the data as values.
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
    last = splits[-1]
    mae = np.abs(last.prediction - last.target).mean()
    alt = f"Predictions of {name} against the targets; the mean absolute error on the {TITLES[last.split]} split is "
    note = "Click a split in the legend to show or hide it."
    sampled = [
        f"{len(points.drawn):,} of {len(points.target):,} {TITLES[points.split]} crystals"
        for points in splits
        if len(points.drawn) < len(points.target)
    ]
    if sampled:
        note += f" Random sample that includes the worst {WORST_DRAWN}: {', '.join(sampled)}."
    return Figure("Prediction against target", figure, f"{alt}{number(mae)}{after_number(unit)}.", note, 460)


def error_distribution(name: str, unit: str | None, points: Points, *, logarithmic: bool) -> Figure:
    """Plot the signed errors of a split against the target, with their histogram on the right.

    Args:
        name: Name of the target.
        unit: Unit of the target, if it is known.
        points: Points of the split.
        logarithmic: True to plot log10(prediction / target).
    """
    definition = "log10(prediction / target)" if logarithmic else "prediction minus target"
    error = np.log10(points.prediction / points.target) if logarithmic else points.prediction - points.target
    suffix = after_name(unit)
    figure = new_drawing(f"{name}, target{suffix}", definition if logarithmic else f"{definition}{suffix}")
    figure.add_scatter(
        x=points.target[points.drawn],
        y=error[points.drawn],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>target %{x:.4g}<br>error %{y:.4g}<extra></extra>",
        showlegend=False,
        **points.style,
    )
    counts, edges = np.histogram(error, min(MAX_BINS, 5 + math.isqrt(len(error))))
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
    lower, median, upper = np.percentile(error, [25, 50, 75])
    numbers = f"mean {number(error.mean())}, median {number(median)}, quartiles {number(lower)} and {number(upper)}"
    note = f"All {len(error):,} crystals: {numbers}."
    alt = f"Errors, {definition}, on the {TITLES[points.split]} split against the target, with a histogram. {note}"
    return Figure(f"Errors on the {TITLES[points.split]} split", figure, alt, note, 460)


def confusion_matrix(scaler: TargetScaler, truth: np.ndarray, predicted: np.ndarray, split: str) -> Figure:
    """Plot the number of crystals for each pair of true and predicted classes.

    Args:
        scaler: Scaler with the classes.
        truth: Indices of the true classes, ``[n]``.
        predicted: Indices of the most probable classes, ``[n]``.
        split: Name of the split.
    """
    labels = [class_label(value) for value in scaler.classes or ()]
    counts, fractions = confusions(len(labels), truth, predicted)
    figure = new_drawing("predicted class", "true class")
    figure.add_heatmap(
        z=fractions,
        x=labels,
        y=labels,
        text=[[f"{count:,}" for count in row] for row in counts],
        texttemplate="%{text}" if len(labels) <= MAX_COUNTS else None,
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
    alt = f"Confusion matrix of {len(labels)} classes; {np.trace(counts):,} of {len(truth):,} crystals are right."
    note = f"Crystals of the {TITLES[split]} split; darker cells hold a larger fraction of the true class."
    return Figure("Confusion matrix", figure, alt, note)


def roc_curves(scaler: TargetScaler, truth: np.ndarray, probabilities: np.ndarray) -> Figure | None:
    """Plot the receiver operating characteristic of each class: of the second of two, of the first eight of many.

    Args:
        scaler: Scaler with the classes.
        truth: Indices of the true classes, ``[n]``.
        probabilities: Predicted probabilities, ``[n, n_classes]``.

    Returns:
        The figure, or None if all crystals are of one class.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = new_drawing("false positive rate", "true positive rate")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=thin_line(), hoverinfo="skip", showlegend=False)
    classes = list(enumerate(map(class_label, scaler.classes or ())))
    areas = []
    for index, label in classes[1:] if len(classes) == 2 else classes[: len(LINES)]:
        is_class = truth == index
        if is_class.all() or not is_class.any():  # the curve is not defined
            continue
        false, true, _ = roc_curve(is_class, probabilities[:, index])
        kept = np.unique(np.linspace(0, len(false) - 1, CURVE_POINTS).astype(int))
        areas.append(f"class {label}: area {roc_auc_score(is_class, probabilities[:, index]):.3f}")
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
    return Figure("ROC curve", figure, f"ROC curve: {'; '.join(areas)}.", "Diagonal: random guessing.")


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Plot the accuracy against the probability of the predicted class, in bins.

    Args:
        truth: Indices of the true classes, ``[n]``.
        probabilities: Predicted probabilities, ``[n, n_classes]``.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    lowest = 1 / probabilities.shape[1]  # the most probable class cannot have less
    edges = np.linspace(lowest, 1, CONFIDENCE_BINS + 1)
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, CONFIDENCE_BINS - 1)
    counts = np.bincount(bins, minlength=CONFIDENCE_BINS)
    filled = np.flatnonzero(counts)
    mean_confidence = np.bincount(bins, confidence, CONFIDENCE_BINS)[filled] / counts[filled]
    accuracy = np.bincount(bins, right, CONFIDENCE_BINS)[filled] / counts[filled]
    figure = new_drawing("probability of the predicted class", "accuracy")
    figure.add_scatter(x=[lowest, 1], y=[lowest, 1], mode="lines", line=thin_line(), hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        x=mean_confidence,
        y=accuracy,
        customdata=counts[filled],
        mode="markers+lines",
        line={"color": COLORS["test"], "width": 1.5},
        marker={"color": COLORS["test"], "size": 6 + 14 * np.sqrt(counts[filled] / counts.max())},
        hovertemplate="%{customdata:,} crystals: probability %{x:.1%}, accuracy %{y:.1%}<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(range=[lowest - 0.03, 1.03], tickformat=".0%")
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    alt = f"Mean probability of the predicted classes {percentage(confidence.mean())}, "
    note = "Calibrated probabilities lie on the line; the larger a point, the more crystals it represents."
    return Figure("Reliability of the probabilities", figure, f"{alt}accuracy {percentage(right.mean())}.", note)


def errors_by_group(title: str, groups: Sequence[Group], errors: CrystalErrors, note: str = "") -> Figure:
    """Plot the mean errors of groups of crystals with their standard errors, the first group on top.

    Args:
        title: Title of the figure.
        groups: Groups of crystals.
        errors: Errors of all crystals.
        note: Start of the caption.
    """
    figure = new_drawing(errors.label, "")
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
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": mean, "x1": mean, "line": thin_line(dash="dash")}
    figure.update_layout(shapes=[line], bargap=0.35)
    farthest = max(group.error + uncertainty for group, uncertainty in zip(groups, uncertainties, strict=True))
    figure.update_xaxes(range=[0, 1.05 * max(farthest, mean) or 1])
    if errors.metric == "error rate":
        figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    listed = "; ".join(f"{group.name}: {errors.text(group.error)} ({group.n})" for group in groups)
    note = f"{note} Number of crystals in parentheses. Error bars: standard error. Dashed line: mean of all crystals, "
    note = f"{note}{errors.text(mean)}.".strip()
    return Figure(title, figure, f"{errors.metric}. {listed}.", note, 110 + 38 * len(groups))


def losses(history: History) -> Figure:
    """Plot the training and validation losses by epoch."""
    figure = new_drawing("epoch", "loss")
    for split in ("train", "val"):
        _add_curve(figure, history, f"{split}_loss", TITLES[split], COLORS[split])
    values = [loss for row in history for loss in (row["train_loss"], row["val_loss"]) if np.isfinite(loss)]
    if 0 < 10 * min(values) < max(values):
        figure.update_yaxes(log_axis(min(values), max(values)))
    first, last = history[0], history[-1]
    changes = (
        f"on the {TITLES[split]} split from {number(first[f'{split}_loss'])} to {number(last[f'{split}_loss'])}"
        for split in ("train", "val")
    )
    return Figure("Loss", figure, f"Loss by epoch, {', '.join(changes)}.")


def monitored(history: History, metric: str, best_epoch: int, baseline: float | None, unit: str | None) -> Figure:
    """Plot the metric that selects the epoch, and its baseline.

    Args:
        history: Rows of ``history.csv``.
        metric: ``mae`` or ``loss``.
        best_epoch: Number of the selected epoch, from 1.
        baseline: Metric of a prediction without a network; None if there is none.
        unit: Unit of the target, if it is known.
    """
    title = METRIC_NAMES[metric].capitalize()
    figure = new_drawing("epoch", METRIC_NAMES[metric] + (after_name(unit) if metric == "mae" else ""))
    values = [row[f"val_{metric}"] for row in history]
    _add_curve(figure, history, f"val_{metric}", TITLES["val"], COLORS["val"])
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
        name = f"{BASELINES[metric]}: {number(baseline)}"
        figure.add_scatter(x=epochs, y=[baseline, baseline], mode="lines", name=name, line=thin_line(dash="dash"))
        # A single outlier must not flatten the rest of the curve.
        finite = [value for value in values if np.isfinite(value)]
        figure.update_yaxes(range=[0, 1.05 * min(max([*finite, baseline]), 3 * max(baseline, best))])
    alt = f"{title} on the validation split by epoch; the best is {number(best)} in epoch {best_epoch}."
    return Figure(f"{title} on the validation split", figure, alt)


def validation_curve(history: History, column: str) -> Figure:
    """Plot another column of the history, such as the error rate or the distillation loss."""
    name = "error rate" if column == "val_error" else column.removeprefix("val_").replace("_", " ")
    figure = new_drawing("epoch", name)
    _add_curve(figure, history, column, TITLES["val"], COLORS["val"])
    # From zero, so that the curve shows the relative change.
    figure.update_yaxes(rangemode="tozero")
    title = f"{name.capitalize()} on the validation split"
    change = f"from {number(history[0][column])} to {number(history[-1][column])}"
    return Figure(title, figure, f"{title} by epoch, {change}.")


def curves(histories: Mapping[str, History], metric: str, unit: str | None, of: str) -> Figure:
    """Plot the monitored metric of several trainings by epoch.

    Args:
        histories: Rows of ``history.csv`` by name.
        metric: ``mae``, ``mae_over_std`` or ``loss``.
        unit: Unit of the target, if it is known.
        of: What the curves belong to, for the title: ``per member``.
    """
    title = f"{METRIC_NAMES[metric].capitalize()} on the validation split, {of}"
    figure = new_drawing("epoch", METRIC_NAMES[metric] + (after_name(unit) if metric == "mae" else ""))
    for index, (name, history) in enumerate(histories.items()):
        dash = DASHES[index // len(LINES) % len(DASHES)]
        _add_curve(figure, history, f"val_{metric}", name.replace("_", " "), LINES[index % len(LINES)], dash)
    # Each keeps its own best epoch; the lowest of all only describes the figure to screen readers.
    best = min(row[f"val_{metric}"] for history in histories.values() for row in history)
    return Figure(title, figure, f"{title}, by epoch, {len(histories)} in all; the lowest is {number(best)}.")


def _add_curve(
    figure: plotly.graph_objects.Figure, history: History, column: str, name: str, color: str, dash: str = "solid"
) -> None:
    """Add a column of the history to a figure as a line over the epochs."""
    figure.add_scatter(
        x=[row["epoch"] for row in history],
        y=[row[column] for row in history],
        mode="lines+markers" if len(history) < 3 else "lines",  # a line through one point is invisible
        name=name,
        line={"color": color, "width": 2, "dash": dash},
        hovertemplate="epoch %{x}: %{y:.4g}",
    )
