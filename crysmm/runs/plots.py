"""Parity and history plots of a run, drawn without pyplot, which would change the global state of matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crysmm.data.scaler import TargetScaler, class_label
from crysmm.data.units import after_name, after_number
from crysmm.files import replacing
from crysmm.runs.metrics import confusions
from crysmm.runs.run_folder import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"train": "#9aa5b1", "val": "#e08e3c", "test": "#2b6cb0"}
METRIC_NAMES = {"mae": "mean absolute error", "mae_over_std": "MAE / standard deviation", "loss": "loss"}
BASELINES = {
    "mae": "mean of the training split",
    "mae_over_std": "means of the training split",
    "loss": "class frequencies",
}

FEW_EPOCHS = 10  # the first of few epochs may be high, and is part of what there is to see

SplitResults = Mapping[str, tuple[np.ndarray, np.ndarray]]


def plot_parity(
    path: Path, results: SplitResults, scaler: TargetScaler, names: Sequence[str], units: Sequence[str | None]
) -> None:
    """Plot predictions against targets, a panel per target; for classes, the confusion matrix of the last split.

    Args:
        path: PNG file to write.
        results: Targets ``[n, n_targets]``, NaN where missing, and decoded predictions by split (``val``, ``test``),
            the last on top.
        scaler: Target scaler of the model; classes and log10 are drawn differently.
        names: Names of the targets.
        units: Unit of each target, None where unknown.
    """
    panels = 1 if scaler.classes is not None else len(names)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = new_figure(5.2 * columns, 5.0 * rows)
    for column, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, column + 1)
        if scaler.classes is not None:
            split, (targets, probabilities) = list(results.items())[-1]
            _draw_confusions(axes, scaler, scaler.class_indices(targets), probabilities.argmax(axis=1))
            axes.set_title(f"{name}: {TITLES[split]} split")
        else:
            values = {}
            for split, (true, predicted) in results.items():
                present = ~np.isnan(true[:, column])
                if present.any():
                    values[split] = (true[present, column], predicted[present, column])
            if values:
                _draw_parity(axes, values, name, units[column], logarithmic=scaler.transform == "log10")
            else:
                axes.set_title(f"{name}: no targets")
    save_figure(figure, path)


def _draw_parity(axes: Axes, values: SplitResults, name: str, unit: str | None, logarithmic: bool) -> None:
    """Draw the points of each split, ``[n]`` targets and predictions, on square axes with the diagonal."""
    numbers = np.concatenate([array for pair in values.values() for array in pair])
    low, high = float(numbers.min()), float(numbers.max())
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        margin = (high / low) ** 0.04 if high > low else 1.1
        limits = (low / margin, high * margin)
    else:
        margin = 0.04 * (high - low) or 1.0
        limits = (low - margin, high + margin)
    axes.plot(limits, limits, color="#4a5568", linewidth=1, zorder=1)
    for split, (target, prediction) in values.items():
        mae = f"{np.abs(target - prediction).mean():.3g}{after_number(unit)}"
        many = len(target) > 2000  # smaller and paler points, so that dense regions remain readable
        axes.scatter(
            target,
            prediction,
            s=5 if many else 18,
            alpha=0.35 if many else 0.75,
            color=COLORS[split],
            edgecolors="none",
            label=f"{TITLES[split]}: {len(target):,} crystals, MAE {mae}",
            zorder=2,
            rasterized=True,
        )
    prefix = "" if name == "target" else f"{name}, "
    suffix = after_name(unit)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel=f"{prefix}target{suffix}", ylabel=f"{prefix}prediction{suffix}")
    axes.legend(loc="upper left", frameon=False, handletextpad=0.2, borderaxespad=0.2)
    clean(axes)


def _draw_confusions(axes: Axes, scaler: TargetScaler, target: np.ndarray, predicted: np.ndarray) -> None:
    """Draw a confusion matrix from class indices ``[n]``; the color shows the fraction of the row's class."""
    classes = scaler.classes or ()
    counts, fractions = confusions(len(classes), target, predicted)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    labels = [class_label(value) for value in classes]
    axes.set_xticks(range(len(classes)), labels)
    axes.set_yticks(range(len(classes)), labels)
    axes.set(xlabel="predicted class", ylabel="class")
    if len(classes) <= 12:
        for row, column in np.ndindex(*counts.shape):
            color = "white" if fractions[row, column] > 0.5 else "#1a202c"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)


def plot_history(
    path: Path,
    history: Sequence[Mapping[str, float]],
    metric: str,
    baseline: float | None,
    unit: str | None = None,
) -> None:
    """Plot the loss, and next to it the monitored validation metric with its baseline.

    If there is no baseline, as in pre-training, the terms of the validation loss are plotted instead, each divided by
    its value in the first epoch.

    Args:
        path: PNG file to write.
        history: Rows by epoch with ``epoch``, ``train_loss``, ``val_loss`` and ``val_<metric>``.
        metric: Monitored metric, ``mae`` or ``loss``.
        baseline: Metric of predicting the mean (or the class frequencies) of the training split; None if there is none.
        unit: Unit of the metric, if it is known.
    """
    figure = new_figure(9.6, 3.8)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) == 1 else None
    losses, monitored = figure.subplots(1, 2)
    for split in ("train", "val"):
        values = [row[f"{split}_loss"] for row in history]
        losses.plot(epochs, values, color=COLORS[split], label=TITLES[split], marker=marker)
    losses.set(title="loss", xlabel="epoch")
    values = [row[f"val_{metric}"] for row in history]
    best = int(np.nanargmin(values)) if np.isfinite(values).any() else 0
    if baseline is None:
        for name in (name for name in history[0] if name.startswith("val_") and name != "val_loss"):
            first = history[0][name]
            scale = first if 0 < first < math.inf else 1.0  # the contrastive loss of a single crystal is 0
            terms = [row[name] / scale for row in history]
            monitored.plot(epochs, terms, label=name.removeprefix("val_"), marker=marker)
        usual = 1.0
        monitored.set(title="terms of the validation loss, relative to the first epoch", xlabel="epoch")
    else:
        monitored.plot(epochs, values, color=COLORS["val"], label="validation", marker=marker)
        label = f"{BASELINES[metric]}: {baseline:.3g}"
        monitored.axhline(baseline, color="#4a5568", linewidth=1, linestyle="--", label=label)
        usual = float(np.nanmax([baseline, values[best]]))
        monitored.set(title=METRIC_NAMES[metric] + (after_name(unit) if metric == "mae" else ""), xlabel="epoch")
    chosen = losses if baseline is None else monitored
    chosen.plot(
        epochs[best : best + 1],
        values[best : best + 1],
        "o",
        color=COLORS["test"],
        label=f"best, epoch {epochs[best]:g}: {values[best]:.3g}",
    )
    for axes, limit in ((losses, history[0]["train_loss"]), (monitored, usual)):
        axes.legend(frameon=False)
        highest = np.nanmax([np.nanmax(line.get_ydata(orig=False)) for line in axes.lines])
        most = limit * (10 if len(epochs) <= FEW_EPOCHS else 3)  # an epoch that diverged must not flatten the others
        axes.set_ylim(0, 1.05 * min(highest, most) or 1)
        axes.set_xlim(0, epochs[-1] + 1)
        axes.xaxis.get_major_locator().set_params(integer=True)
        clean(axes)
    save_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure with a width and a height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def clean(axes: Axes) -> None:
    """Remove the upper and right spines, and draw a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for axes in figure.axes:
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_parse_math(False)  # names and units of the data may contain "$"
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(str(temporary), format="png", dpi=130)
