"""Mean errors of groups of crystals."""

from __future__ import annotations

from collections.abc import Sequence

from crysmm.report.errors import CrystalErrors
from crysmm.report.figures.base import COLORS, GREY, UNIT, Figure, new_drawing, thin_line
from crysmm.report.groups import Group


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
