"""Learning curves: test error against the number of labels, one line per arm."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curves = Mapping[str, Mapping[int, Mapping[int, float]]]
"""Test MAEs by arm, amount of labels and seed."""


def plot_curves(path: Path, panels: Mapping[str, Curves], labels: str) -> None:
    """Plot learning curves with logarithmic axes; bars reach from the best to the worst seed.

    Args:
        path: PNG file to write.
        panels: Curves by the label of the panel's vertical axis, such as "test MAE, eV/atom".
        labels: What the amounts are, for the horizontal axis.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(7 if columns == 1 else 10, 4.6 if rows == 1 else 3.9 * rows), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colors: dict[str, str] = {}  # an arm has the same one in all panels
    for axes, (name, curves) in zip(all_axes, panels.items(), strict=False):
        ticks = sorted({amount for by_amount in curves.values() for amount in by_amount})
        _draw(axes, curves, ticks, colors)
        axes.set(xscale="log", yscale="log", xlabel=labels, ylabel=name)
        axes.set_xticks(ticks, [f"{amount:,}" for amount in ticks])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.minorticks_on()
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.grid(alpha=0.25, which="both", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    lines = {label: line for axes in all_axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=columns + 1, frameon=False, fontsize=9)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=130)


def _draw(axes: Axes, curves: Curves, amounts: Sequence[int], colors: dict[str, str]) -> None:
    """Draw the curves of one panel, interrupted where an amount is missing, and add the colors of new arms."""
    for arm, by_amount in curves.items():
        found = [list(by_amount.get(amount, {0: math.nan}).values()) for amount in amounts]
        means = [statistics.mean(errors) for errors in found]
        ranges = [
            [mean - min(errors) for errors, mean in zip(found, means, strict=True)],
            [max(errors) - mean for errors, mean in zip(found, means, strict=True)],
        ]
        color = colors.setdefault(arm, f"C{len(colors)}")
        axes.errorbar(
            amounts, means, ranges, color=color, marker="o", markersize=4, capsize=3, linewidth=1.4, label=arm
        )
