"""The pictures of an explanation: what features and elements matter most, and a lone crystal's atoms and features."""

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

SHOWN = 25
SHOWN_ATOMS = 60
LONGEST_ID = 40  # in a title
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
    colors = [COLORS.get(row.feature.group, OTHER) for row in rows]
    figure, axes = _bars([row.feature.name for row in rows], values, colors)
    if weighted:
        axes.set(title="features by weight, the same for any crystal", xlabel=f"size of the weight for {quantity}")
    else:
        axes.set(title="features by contribution", xlabel=f"mean absolute contribution to {quantity}")
    save_figure(figure, path)


def plot_elements(path: Path, rows: Sequence[dict[str, Any]], quantity: str) -> None:
    """Mean contributions of elements in the crystals that have them, of those with the largest sums over all.

    Args:
        path: of the PNG file.
        rows: of :func:`crysmm.explain.tables.element_rows`.
        quantity: what is explained.
    """
    rows = sorted(rows, key=lambda row: -abs(row["n_crystals"] * row["mean_contribution"]))[:SHOWN]
    rows = sorted(rows, key=lambda row: -row["mean_contribution"])
    values = [row["mean_contribution"] for row in rows]
    labels = [f"{row['element']}  ({row['n_crystals']:,})" for row in rows]
    figure, axes = _signed_bars(labels, values)
    axes.set(title="elements (in how many crystals) by contribution", xlabel=f"mean contribution to {quantity}")
    save_figure(figure, path)


def plot_atoms(path: Path, crystal: CrystalExplanation, quantity: str) -> None:
    """Contributions of a crystal's atoms, element by element, in large cells of those with the largest.

    Args:
        path: of the PNG file.
        crystal: whose atoms.
        quantity: what is explained.
    """
    elements = list(dict.fromkeys(row["element"] for row in crystal.atoms))  # in the order of the file
    rows = sorted(crystal.atoms, key=lambda row: -abs(row["contribution"]))[:SHOWN_ATOMS]
    rows = sorted(rows, key=lambda row: (elements.index(row["element"]), row["atom"]))
    labels = [f"{row['element']}  {row['atom']}" for row in rows]
    figure, axes = _signed_bars(labels, [row["contribution"] for row in rows])
    for place, (above, below) in enumerate(pairwise(rows)):
        if above["element"] != below["element"]:
            axes.axhline(place + 0.5, color=OTHER, linewidth=0.6)
    _describe(figure, axes, crystal, quantity)
    axes.set_title(_shown("atoms, by element and site", rows, crystal.atoms), fontsize="medium")
    save_figure(figure, path)


def plot_features_of_crystal(path: Path, crystal: CrystalExplanation, quantity: str) -> None:
    """Contributions of a crystal's features, the largest on top.

    Args:
        path: of the PNG file.
        crystal: whose features.
        quantity: what is explained.
    """
    rows = crystal.features[:SHOWN]
    labels = [f"{row['name']}  ({row['n_atoms']:,})" for row in rows]
    figure, axes = _signed_bars(labels, [row["contribution"] for row in rows])
    _describe(figure, axes, crystal, quantity)
    axes.set_title(_shown("features (in how many atoms)", rows, crystal.features), fontsize="medium")
    save_figure(figure, path)


def _describe(figure: Figure, axes: Axes, crystal: CrystalExplanation, quantity: str) -> None:
    """Whose contributions they are, and what they add up to."""
    identifier = crystal.id if len(crystal.id) <= LONGEST_ID else f"...{crystal.id[-LONGEST_ID:]}"
    total = f"prediction {crystal.prediction:.4g} = {crystal.baseline:.4g} without features"
    heading = f"{identifier}\n{total}, and contributions of {crystal.contributions:.4g}"
    figure.suptitle(heading, parse_math=False, fontsize="medium")
    figure.set_figheight(figure.get_figheight() + 0.5)
    axes.set_xlabel(f"contribution to {quantity}")


def _shown(kind: str, rows: Sequence[dict[str, Any]], present: Sequence[dict[str, Any]]) -> str:
    """A title that says when only the largest are shown."""
    return kind if len(rows) == len(present) else f"{kind}: the {len(rows)} largest of {len(present):,}"


def _signed_bars(labels: Sequence[str], values: Sequence[float]) -> tuple[Figure, Axes]:
    """Bars to both sides of zero, one colour a side."""
    figure, axes = _bars(labels, values, [RISES if value > 0 else FALLS for value in values])
    axes.axvline(0, color="#4a5568", linewidth=0.8)
    return figure, axes


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
