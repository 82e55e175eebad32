"""Plots of an explanation: features, elements, and the atoms and features of one crystal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysmm.explain.tables import CrystalExplanation, FeatureRow
from crysmm.runs.plots import clean, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 25  # bars
SHOWN_ATOMS = 60
LONGEST_ID = 40  # characters in a title
COLORS = {
    "group": "#2b6cb0",
    "period": "#4a5568",
    "electronegativity": "#c05621",
    "covalent radius": "#2f855a",
    "valence electrons": "#6b46c1",
    "first ionization energy": "#b7791f",
    "electron affinity": "#97266d",
    "block": "#2c7a7b",
    "atomic volume": "#9b2c2c",
}
RISES, FALLS, OTHER = "#c05621", "#2b6cb0", "#718096"


def plot_features(path: Path, rows: Sequence[FeatureRow], quantity: str) -> None:
    """Plot the features with the largest weights, or with the largest contributions for backbones without weights.

    Args:
        path: PNG file to write.
        rows: Features, most important first.
        quantity: Name of the explained quantity, with its unit.
    """
    weighted = rows[0].weight is not None
    rows = [row for row in rows if row.importance > 0][:SHOWN]
    values = [row.importance for row in rows]
    colors = [COLORS.get(row.feature.group, OTHER) for row in rows]
    figure, axes = _bars([row.feature.name for row in rows], values, colors)
    if weighted:
        axes.set(title="features by weight, the same for all crystals", xlabel=f"absolute weight for {quantity}")
    else:
        axes.set(title="features by contribution", xlabel=f"mean absolute contribution to {quantity}")
    save_figure(figure, path)


def plot_elements(path: Path, rows: Sequence[dict[str, Any]], quantity: str) -> None:
    """Plot the mean contribution of each element per crystal that contains it, for the largest sums over all crystals.

    Args:
        path: PNG file to write.
        rows: Rows from :meth:`crysmm.explain.tables.Totals.element_rows`.
        quantity: Name of the explained quantity, with its unit.
    """
    # The elements that matter most for the data are chosen first, then ordered from raising to lowering the prediction.
    rows = sorted(rows, key=lambda row: -abs(row["n_crystals"] * row["mean_contribution"]))[:SHOWN]
    rows = sorted(rows, key=lambda row: -row["mean_contribution"])
    values = [row["mean_contribution"] for row in rows]
    labels = [f"{row['element']}  ({row['n_crystals']:,})" for row in rows]
    figure, axes = _bars(labels, values)
    axes.set(title="elements (number of crystals) by contribution", xlabel=f"mean contribution to {quantity}")
    save_figure(figure, path)


def plot_atoms(path: Path, crystal: CrystalExplanation, quantity: str) -> None:
    """Plot the contributions of a crystal's atoms, grouped by element; in large cells, only the largest.

    Args:
        path: PNG file to write.
        crystal: Explanation of the crystal.
        quantity: Name of the explained quantity, with its unit.
    """
    elements = list(dict.fromkeys(row["element"] for row in crystal.atoms))  # in the order of the file
    rows = sorted(crystal.atoms, key=lambda row: -abs(row["contribution"]))[:SHOWN_ATOMS]
    rows = sorted(rows, key=lambda row: (elements.index(row["element"]), row["atom"]))
    labels = [f"{row['element']}  {row['atom']}" for row in rows]
    figure, axes = _bars(labels, [row["contribution"] for row in rows])
    for place, (above, below) in enumerate(pairwise(rows)):
        if above["element"] != below["element"]:
            axes.axhline(place + 0.5, color=OTHER, linewidth=0.6)
    _label(figure, axes, crystal, quantity, "atoms, by element and site", len(rows), len(crystal.atoms))
    save_figure(figure, path)


def plot_features_of_crystal(path: Path, crystal: CrystalExplanation, quantity: str) -> None:
    """Plot the contributions of a crystal's features, the largest on top.

    Args:
        path: PNG file to write.
        crystal: Explanation of the crystal.
        quantity: Name of the explained quantity, with its unit.
    """
    rows = crystal.features[:SHOWN]
    labels = [f"{row['name']}  ({row['n_atoms']:,})" for row in rows]
    figure, axes = _bars(labels, [row["contribution"] for row in rows])
    _label(figure, axes, crystal, quantity, "features (number of atoms)", len(rows), len(crystal.features))
    save_figure(figure, path)


def _label(
    figure: Figure, axes: Axes, crystal: CrystalExplanation, quantity: str, title: str, n_shown: int, n_all: int
) -> None:
    """Add a crystal's id and prediction, and a title that notes if only the largest bars are shown."""
    identifier = crystal.id if len(crystal.id) <= LONGEST_ID else f"...{crystal.id[-LONGEST_ID:]}"
    total = f"prediction {crystal.prediction:.4g} = {crystal.baseline:.4g} without features"
    heading = f"{identifier}\n{total} + contributions of {crystal.contributions:.4g}"
    figure.suptitle(heading, parse_math=False, fontsize="medium")  # an id may contain "$"
    figure.set_figheight(figure.get_figheight() + 0.5)
    axes.set_xlabel(f"contribution to {quantity}")
    axes.set_title(title if n_shown == n_all else f"{title}: the {n_shown} largest of {n_all:,}", fontsize="medium")


def _bars(labels: Sequence[str], values: Sequence[float], colors: Sequence[str] | None = None) -> tuple[Figure, Axes]:
    """Draw horizontal bars, the first on top.

    Args:
        labels: Labels of the bars.
        values: Lengths of the bars.
        colors: Colors of the bars; by default one for each side of zero, which is marked by a line.
    """
    figure = new_figure(7.2, 1.2 + 0.25 * len(labels))
    axes = figure.add_subplot()
    places = range(len(labels))
    if colors is None:
        colors = [RISES if value > 0 else FALLS for value in values]
        axes.axvline(0, color="#4a5568", linewidth=0.8)
    axes.barh(places, values, color=colors, height=0.7)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    clean(axes)
    axes.grid(visible=False, axis="y")
    return figure, axes
