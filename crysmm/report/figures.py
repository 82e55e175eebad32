"""The figures of a report, which plotly draws in the browser; text, grid and ground take the colors of the page.

A scatter plot shows at most ``MOST_POINTS`` crystals a split, drawn at random, and the ten farthest off; histograms and
means are of all.
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
from crysmm.report.errors import CrystalErrors
from crysmm.report.groups import Group
from crysmm.report.numbers import number, share
from crysmm.training.plots import BASELINES, MEASURES, TITLES

if TYPE_CHECKING:
    import plotly.graph_objects

MOST_POINTS = 1500
WORST_DRAWN = 10
COLORS = {"train": "#8f9bab", "val": "#e08e3c", "test": "#3b82c4"}  # seen on white and on black
GREY = "#7d8794"
LINES = ("#3b82c4", "#e08e3c", "#4c9f70", "#c25b7c", "#8a6fc1", "#8d7b5e", "#2f9ea8", "#b0a030")
HISTOGRAM_BINS = 40
CONFIDENCE_BINS = 10
CURVE_POINTS = 200
MOST_LABELLED = 12  # classes whose confusions have their counts written

UNIT = " (unit of the input)"

History = Sequence[Mapping[str, float]]


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
    figure = _empty(f"{name}, target{UNIT}", f"{name}, prediction{UNIT}")
    diagonal = [10**end for end in limits] if logarithmic else limits
    figure.add_scatter(x=diagonal, y=diagonal, mode="lines", line=_thin(), hoverinfo="skip", showlegend=False)
    for points in splits:
        figure.add_scatter(
            x=points.target[points.drawn],
            y=points.prediction[points.drawn],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>target %{x:.4g}<br>prediction %{y:.4g}",
            visible="legendonly" if points.split == "train" else True,
            **points.style,
        )
    figure.update_xaxes(range=limits, constrain="domain", **(_log_axis(*ends) if logarithmic else {}))
    figure.update_yaxes(range=limits, constrain="domain", scaleanchor="x", **(_log_axis(*ends) if logarithmic else {}))
    shown = splits[-1]
    error = np.abs(shown.prediction - shown.target).mean()
    alt = f"Predictions of {name} against the targets; the mean absolute error of the {TITLES[shown.split]} split is "
    return Figure("Prediction against target", figure, f"{alt}{number(error)}.", _sampled(splits), 460)


def error_spread(name: str, points: Points, *, logarithmic: bool) -> Figure:
    """Signed errors of one split against the target, and beside them how often each occurs."""
    what = "log10(prediction / target)" if logarithmic else "prediction minus target"
    error = np.log10(points.prediction / points.target) if logarithmic else points.prediction - points.target
    figure = _empty(f"{name}, target{UNIT}", what if logarithmic else f"{what}{UNIT}")
    figure.add_scatter(
        x=points.target[points.drawn],
        y=error[points.drawn],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>target %{x:.4g}<br>error %{y:.4g}<extra></extra>",
        showlegend=False,
        **points.style,
    )
    counts, edges = np.histogram(error, HISTOGRAM_BINS)
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
        figure.update_xaxes(_log_axis(points.target.min(), points.target.max()))
    figure.update_xaxes(domain=[0, 0.76])
    figure.update_layout(
        xaxis2={**_axis("crystals"), "domain": [0.79, 1], "nticks": 3, "rangemode": "tozero", "showline": False},
        bargap=0,
        shapes=[{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": _thin()}],
    )
    quarter, half, three_quarters = np.percentile(error, [25, 50, 75])
    facts = f"mean {number(error.mean())}, median {number(half)}, the middle half {number(quarter)} to "
    note = f"Of all {len(error):,} crystals: {facts}{number(three_quarters)}."
    alt = f"Errors, {what}, of the {TITLES[points.split]} split against the target, with their histogram. {note}"
    return Figure(f"Errors of the {TITLES[points.split]} split", figure, alt, note, 460)


def confusions(scaler: TargetScaler, truth: np.ndarray, predicted: np.ndarray, split: str) -> Figure:
    """How often which class ``[n]`` is taken for which."""
    labels = _class_labels(scaler)
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _empty("predicted class", "class")
    figure.add_heatmap(
        z=shares,
        x=labels,
        y=labels,
        customdata=counts,
        texttemplate="%{customdata:,}" if len(labels) <= MOST_LABELLED else None,
        textfont={"size": 16},
        colorscale=[[0, "rgba(59,130,196,0.08)"], [1, "rgba(59,130,196,0.95)"]],
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        colorbar={"title": {"text": "share of<br>the class"}, "tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
        hovertemplate="class %{y}, predicted %{x}: %{customdata:,} crystals, %{z:.1%} of the class<extra></extra>",
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    alt = f"Table of {len(labels)} classes against predicted classes; {np.trace(counts):,} of {len(truth):,} are right."
    return Figure(f"Confusions of the {TITLES[split]} split", figure, alt)


def roc_curves(scaler: TargetScaler, truth: np.ndarray, probabilities: np.ndarray) -> Figure | None:
    """Receiver operating characteristic of each class; None where no class has crystals inside and outside it."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = _empty("false positive rate", "true positive rate")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=_thin(), hoverinfo="skip", showlegend=False)
    areas = []
    for place, label in _classes_of_curves(scaler):
        is_class = truth == place
        if is_class.all() or not is_class.any():
            continue
        false, true, _ = roc_curve(is_class, probabilities[:, place])
        kept = np.unique(np.linspace(0, len(false) - 1, CURVE_POINTS).astype(int))
        areas.append(f"class {label}: {roc_auc_score(is_class, probabilities[:, place]):.3f}")
        figure.add_scatter(
            x=false[kept],
            y=true[kept],
            mode="lines",
            name=areas[-1],
            line={"color": LINES[place % len(LINES)], "width": 2, "shape": "hv"},
            hovertemplate="false positives %{x:.1%}, true positives %{y:.1%}<extra></extra>",
        )
    if not areas:
        return None
    figure.update_layout(legend={"x": 0.98, "xanchor": "right", "y": 0.05, "yanchor": "bottom", "orientation": "v"})
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", constrain="domain")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%", scaleanchor="x", constrain="domain")
    return Figure("ROC curve", figure, f"ROC curve; area under it, {'; '.join(areas)}.", "Area under the curve in the legend.")


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
    figure = _empty("probability of the predicted class", "share that is right")
    figure.add_scatter(x=[lowest, 1], y=[lowest, 1], mode="lines", line=_thin(), hoverinfo="skip", showlegend=False)
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
    alt = f"Probabilities of predicted classes, on average {share(confidence.mean())}, against the share that is right, "
    note = "On the line, probabilities are what they say; the size of a point says how many crystals it stands for."
    return Figure("Are the probabilities right?", figure, f"{alt}{share(right.mean())}.", note)


def losses(history: History) -> Figure:
    """The loss that is minimised, epoch by epoch."""
    figure = _empty("epoch", "loss")
    for split in ("train", "val"):
        _add_curve(figure, history, f"{split}_loss", TITLES[split], COLORS[split])
    values = [row[f"{split}_loss"] for row in history for split in ("train", "val")]
    if min(values) > 0:
        figure.update_yaxes(_log_axis(min(values), max(values)))
    first, last = history[0], history[-1]
    alt = f"Loss by epoch: of the training split from {number(first['train_loss'])} to {number(last['train_loss'])}, of "
    alt += f"the validation split from {number(first['val_loss'])} to {number(last['val_loss'])}."
    return Figure("Loss", figure, alt)


def monitored(history: History, measure: str, best_epoch: int, baseline: float | None) -> Figure:
    """The measure that chooses the epoch, against what it is without a network."""
    title = MEASURES[measure].capitalize()
    figure = _empty("epoch", _with_unit(measure))
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
        figure.add_scatter(x=epochs, y=[baseline, baseline], mode="lines", name=name, line=_thin(dash="dash"))
        finite = [value for value in values if np.isfinite(value)]
        figure.update_yaxes(range=[0, 1.05 * min(max([*finite, baseline]), 3 * max(baseline, best))])
    alt = f"{title} of the validation split by epoch; the best is {number(best)} in epoch {best_epoch}."
    return Figure(f"{title} of the validation split", figure, alt)


def other_terms(history: History, names: Sequence[str]) -> Figure:
    """Other terms of the validation loss, as that of a teacher."""
    figure = _empty("epoch", "part of the loss")
    for place, name in enumerate(names):
        _add_curve(figure, history, name, name.removeprefix("val_").replace("_", " "), LINES[place % len(LINES)])
    listed = ", ".join(name.removeprefix("val_").replace("_", " ") for name in names)
    return Figure("Parts of the validation loss", figure, f"By epoch: {listed}.")


def of_members(histories: Mapping[str, History], measure: str) -> Figure:
    """The monitored measure of each member of an ensemble."""
    title = MEASURES[measure].capitalize()
    figure = _empty("epoch", _with_unit(measure))
    for place, (name, history) in enumerate(histories.items()):
        _add_curve(figure, history, f"val_{measure}", name.replace("_", " "), LINES[place % len(LINES)])
    best = min(row[f"val_{measure}"] for history in histories.values() for row in history)
    alt = f"{title} of the validation split by epoch, of {len(histories)} members; the lowest is {number(best)}."
    return Figure(f"{title} of the validation split, member by member", figure, alt)


def by_group(title: str, groups: Sequence[Group], errors: CrystalErrors, note: str = "") -> Figure:
    """Mean errors of groups of crystals, the first on top, with their standard errors."""
    figure = _empty(f"{errors.measure}{UNIT}" if errors.measure == "MAE" else errors.measure, "")
    figure.add_bar(
        y=[f"{group.name} ({group.n:,})" for group in groups],
        x=[group.error for group in groups],
        orientation="h",
        marker={"color": COLORS["test"], "line": {"width": 0}},
        error_x={"array": [group.uncertainty or 0 for group in groups], "color": GREY, "thickness": 1.2, "width": 4},
        hovertemplate="%{y} crystals: %{x:.4g}<extra></extra>",
        showlegend=False,
    )
    mean = float(errors.values.mean())
    figure.update_layout(
        shapes=[{"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": mean, "x1": mean, "line": _thin(dash="dash")}],
        bargap=0.35,
    )
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    listed = "; ".join(f"{group.name}: {number(group.error)} of {group.n}" for group in groups)
    note = f"{note} Dashed: all crystals, {number(mean)}. Bars with standard errors; crystals in brackets.".strip()
    return Figure(title, figure, f"{errors.measure}. {listed}.", note, 110 + 38 * len(groups))


def _empty(x_title: str, y_title: str) -> plotly.graph_objects.Figure:
    from plotly.graph_objects import Figure as Drawing

    return Drawing(
        layout={
            "template": "none",
            "margin": {"l": 56, "r": 12, "t": 34, "b": 48},
            "xaxis": _axis(x_title),
            "yaxis": _axis(y_title),
            "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
            "hoverlabel": {"align": "left"},
        }
    )


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": html.escape(title), "standoff": 8, "font": {"size": 13}},
        "automargin": True,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "showline": True,
    }


def _log_axis(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis with ticks people can read: 0.1, 0.2, 0.5, ...; over many decades, 0.1, 1, 10, ..."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


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


def _thin(dash: str = "solid") -> dict[str, Any]:
    return {"color": GREY, "width": 1, "dash": dash}


def _class_labels(scaler: TargetScaler) -> list[str]:
    return [class_label(value) for value in scaler.classes or ()]


def _classes_of_curves(scaler: TargetScaler) -> list[tuple[int, str]]:
    """Places and labels of the classes that have a curve: of two the second, of many the first few."""
    labels = list(enumerate(_class_labels(scaler)))
    return labels[1:] if len(labels) == 2 else labels[: len(LINES)]


def _sampled(splits: Sequence[Points]) -> str:
    """Which points are left out, if any are."""
    parts = [
        f"{len(points.drawn):,} of {len(points.target):,} {TITLES[points.split]} crystals"
        for points in splits
        if len(points.drawn) < len(points.target)
    ]
    return f"Drawn at random, with the {WORST_DRAWN} farthest off: {', '.join(parts)}." if parts else ""
