"""Predicted classes and their probabilities against the truth."""

from __future__ import annotations

import numpy as np

from crysmm.data.scaler import TargetScaler, class_label
from crysmm.report.figures.base import COLORS, LINES, Figure, new_drawing, thin_line
from crysmm.report.numbers import share
from crysmm.runs.plots import TITLES

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
