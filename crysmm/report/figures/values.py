"""Predicted values against the truth.

A plot shows at most ``MOST_POINTS`` crystals a split, drawn at random, and the ten farthest off; histograms and means
are of all.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from crysmm.report.figures.base import COLORS, UNIT, Figure, axis, log_axis, new_drawing, thin_line
from crysmm.report.numbers import number
from crysmm.runs.plots import TITLES

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
