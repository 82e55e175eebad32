"""The two pictures of an explanation: the features and the elements that matter most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysmm.explain.report import FeatureRow
from crysmm.training.plots import clean, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 25
COLORS = {
    "group": "#2b6cb0",
    "period": "#4a5568",
    "electronegativity": "#c05621",
    "covalent radius": "#2f855a",
    "valence electrons": "#6b46c1",
    "first ionisation energy": "#b7791f",
    "electron affinity": "#97266d",
    "block": "#2c7a7b",
    "atomic volume": "#9b2c2c",
}
RISES, FALLS, OTHER = "#c05621", "#2b6cb0", "#718096"


def plot_features(path: Path, rows: Sequence[FeatureRow], quantity: str) -> None:
    """The features with the largest weights, or for a backbone without weights the largest contributions.

    Args:
        path: of the PNG file.
        rows: the most important first.
        quantity: what is explained.
    """
    weighted = rows[0].weight is not None
    rows = [row for row in rows if row.matters][:SHOWN]
    values = [row.importance for row in rows]
    colors = [COLORS.get(row.feature.property, OTHER) for row in rows]
    figure, axes = _bars([row.feature.name for row in rows], values, colors)
    label = f"size of the weight for {quantity}" if weighted else f"mean absolute contribution to {quantity}"
    axes.set(title=f"features by {'weight' if weighted else 'contribution'}", xlabel=label)
    save_figure(figure, path)


def plot_elements(path: Path, rows: Sequence[dict[str, Any]], quantity: str) -> None:
    """Mean contributions of elements in the crystals that have them, of those with the largest sums over all.

    Args:
        path: of the PNG file.
        rows: of :func:`crysmm.explain.report.element_rows`.
        quantity: what is explained.
    """
    rows = sorted(rows, key=lambda row: -abs(row["n_crystals"] * row["mean_contribution"]))[:SHOWN]
    rows = sorted(rows, key=lambda row: -row["mean_contribution"])
    values = [row["mean_contribution"] for row in rows]
    labels = [f"{row['element']}  ({row['n_crystals']:,})" for row in rows]
    figure, axes = _bars(labels, values, [RISES if value > 0 else FALLS for value in values])
    axes.axvline(0, color="#4a5568", linewidth=0.8)
    axes.set(title="elements (in how many crystals) by contribution", xlabel=f"mean contribution to {quantity}")
    save_figure(figure, path)


def _bars(labels: Sequence[str], values: Sequence[float], colors: Sequence[str]) -> tuple[Figure, Axes]:
    """Horizontal bars, the first on top."""
    figure = new_figure(7.2, 1.2 + 0.25 * len(labels))
    axes = figure.add_subplot()
    places = range(len(labels))
    axes.barh(places, values, color=colors, height=0.7)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    clean(axes)
    axes.grid(visible=False, axis="y")
    return figure, axes
