"""The page of a comparison: ``comparison.html``, a single file that loads nothing from elsewhere."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crysmm import __version__
from crysmm.comparison.results import Comparison, Key, Summary
from crysmm.comparison.statistics import PerCrystalScore, Score
from crysmm.config.loading import format_value
from crysmm.data.units import number
from crysmm.files import write_text_atomic
from crysmm.report.figures import GREY, LINES, Figure, log_axis, new_drawing, thin_line
from crysmm.report.html import embed_scripts, static_file
from crysmm.report.page import template
from crysmm.report.tables import Table

MAX_KEYS = 4  # properties and metrics with figures
MAX_SCATTERS = 4  # arms with a scatter plot
MAX_POINTS = 3000
ERROR_BARS = "Error bars: standard error over the test crystals, which all share; differences have smaller errors."


def write_page(comparison: Comparison) -> None:
    """Write ``comparison.html``."""
    from plotly.offline import get_plotlyjs

    scripts, policy = embed_scripts([get_plotlyjs(), static_file("page.js")])
    header, rows = comparison.table()
    caption = "Means ± standard errors over the test crystals"
    has_seeds = "seeds" in header
    arms = comparison.arms
    page = template("comparison.html").render(
        policy=policy,
        style=static_file("page.css"),
        scripts=scripts,
        version=__version__,
        title=" and ".join([", ".join(arms[:-1]), arms[-1]]) if len(arms) > 1 else arms[0],
        n_test=len(comparison.test_ids),
        table=Table(caption + (", averaged over the seeds" if has_seeds else ""), header, rows),
        verdicts=[(pair.difference.verdict, pair.text(comparison.units)) for pair in comparison.pairs],
        notes=comparison.notes,
        figures=score_figures(comparison),
        scatters=scatter_figures(comparison),
        settings=_settings_table(comparison.settings),
        runs=_reports(comparison),
    )
    write_text_atomic(comparison.page, page)


def _settings_table(settings: Mapping[str, Mapping[str, object]]) -> Table | None:
    """Tabulate the settings that differ between the arms, or return None if there are none."""
    keys = list(dict.fromkeys(key for own in settings.values() for key in own))
    if not keys:
        return None
    rows = [[key, *(_shown(own.get(key)) for own in settings.values())] for key in keys]
    return Table("Settings that differ between the trained arms", ["setting", *settings], rows, is_text=True)


def _shown(value: object) -> str:
    """Format the value of a setting."""
    return "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else format_value(value)


def _reports(comparison: Comparison) -> list[tuple[str, str]]:
    """List the runs, each with the path of its report relative to the page."""
    paths = [result.folder / "report.html" for result in comparison.results]
    relative = [Path(os.path.relpath(path, comparison.folder)) for path in paths if path.is_file()]
    return [(str(path.parent), path.as_posix()) for path in relative]


def score_figures(comparison: Comparison) -> list[Figure]:
    """Plot the test scores, as learning curves if there are several sizes, and the differences to the first arm."""
    several = len(comparison.sizes) > 1
    drawn = []
    for key in comparison.keys[:MAX_KEYS]:
        drawn.append(_learning_curves(comparison, key) if several else _test_scores(comparison, key))
        if comparison.pairs:
            drawn.append(_differences(comparison, key))
    return drawn


def _learning_curves(comparison: Comparison, key: Key) -> Figure:
    """Plot the test score of each arm against the number of training crystals."""
    figure = new_drawing("training crystals", f"test {comparison.label(key)}")
    counts = sorted({result.n_train for result in comparison.results if result.n_train})
    parts = []
    for index, arm in enumerate(comparison.arms):
        found = [one for size in comparison.sizes if (one := comparison.summary(arm, size, key)) is not None]
        untrained = not any(one.n_train for one in found)
        x = counts if untrained and len(counts) == len(found) else [one.n_train for one in found]
        color = LINES[index % len(LINES)]
        figure.add_scatter(
            x=x,
            y=[one.test for one in found],
            mode="lines+markers",
            name=html.escape(arm),
            line={"color": color, "width": 2, "dash": "dot" if untrained else "solid"},
            error_y={"array": _lengths(found), "color": color, "thickness": 1.2, "width": 4},
            hovertemplate="%{x:,} training crystals: %{y:.4g}",
        )
        parts.append(f"{arm}: {', '.join(number(one.test) for one in found)}")
    figure.update_xaxes(log_axis(counts[0], counts[-1]) if len(counts) > 1 else {})
    return Figure("Learning curves", figure, f"{comparison.label(key)} by size. {'; '.join(parts)}.", ERROR_BARS, 420)


def _lengths(summaries: Sequence[Summary]) -> list[float]:
    """Return the lengths of error bars, 0 where the standard error is not known."""
    return [0.0 if math.isnan(one.standard_error) else one.standard_error for one in summaries]


def _test_scores(comparison: Comparison, key: Key) -> Figure:
    """Plot the test score of each arm with its standard error, the first arm on top."""
    size = comparison.sizes[0]
    found = {arm: one for arm in comparison.arms if (one := comparison.summary(arm, size, key)) is not None}
    figure = new_drawing(f"test {comparison.label(key)}", "")
    figure.add_bar(
        y=[html.escape(arm) for arm in found],
        x=[one.test for one in found.values()],
        orientation="h",
        marker={"color": [LINES[index % len(LINES)] for index in range(len(found))], "line": {"width": 0}},
        error_x={"array": _lengths(list(found.values())), "color": GREY, "thickness": 1.2, "width": 4},
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        showlegend=False,
    )
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    listed = "; ".join(f"{arm}: {number(one.test)} ± {number(one.standard_error)}" for arm, one in found.items())
    return Figure("Test scores", figure, f"{comparison.label(key)}. {listed}.", ERROR_BARS, 120 + 42 * len(found))


def _differences(comparison: Comparison, key: Key) -> Figure:
    """Plot the difference of each arm to the first with its interval."""
    pairs = [pair for pair in comparison.pairs if (pair.target, pair.difference.metric) == key]
    names = [pair.arm if pair.n_train is None else f"{pair.arm}, {pair.n_train:,}" for pair in pairs]
    found = [pair.difference for pair in pairs]
    first = comparison.pairs[0].first
    better = "left" if key[1] == "mae" else "right"
    figure = new_drawing(f"difference to {first}, {comparison.label(key)}", "")
    colors = [LINES[comparison.arms.index(pair.arm) % len(LINES)] for pair in pairs]
    figure.add_scatter(
        x=[one.value for one in found],
        y=[html.escape(name) for name in names],
        mode="markers",
        marker={"color": colors, "size": 9},
        error_x={
            "array": [one.upper - one.value if math.isfinite(one.upper) else 0.0 for one in found],
            "arrayminus": [one.value - one.lower if math.isfinite(one.lower) else 0.0 for one in found],
            "color": GREY,
            "thickness": 1.6,
            "width": 5,
        },
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        showlegend=False,
    )
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 0, "x1": 0, "line": thin_line(dash="dash")}
    figure.update_layout(shapes=[line])
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    listed = "; ".join(
        f"{name}: {number(one.value)}, {number(one.lower)} to {number(one.upper)}"
        for name, one in zip(names, found, strict=True)
    )
    note = f"Paired over the same test crystals, with 95% intervals; {better} of the line is better than {first}."
    return Figure(f"Difference to {first}", figure, f"{note} {listed}.", note, 120 + 42 * len(pairs))


def scatter_figures(comparison: Comparison) -> list[Figure]:
    """Plot the absolute errors of the crystals, each arm against the first, on the largest training set."""
    size, drawn = comparison.sizes[-1], []
    for key in [key for key in comparison.keys if key[1] == "mae"][:MAX_KEYS]:
        for pair in [pair for pair in comparison.pairs if (pair.size, pair.target) == (size, key[0])][:MAX_SCATTERS]:
            errors = [
                _mean_errors([result.test[key] for result in comparison.of(name, size)])
                for name in (pair.first, pair.arm)
            ]
            drawn.append(_scatter(comparison, key, (pair.first, pair.arm), errors))
    return drawn


def _mean_errors(scores: Sequence[Score]) -> np.ndarray:
    """Return the absolute error of each crystal, the mean over the seeds."""
    return np.mean([score.values for score in scores if isinstance(score, PerCrystalScore)], axis=0)


def _scatter(comparison: Comparison, key: Key, names: tuple[str, str], errors: Sequence[np.ndarray]) -> Figure:
    """Plot the errors of two arms against each other; below the diagonal the second arm is better."""
    first, arm = names
    present = np.flatnonzero(np.isfinite(errors[0]))
    shown = present
    if len(present) > MAX_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(present, MAX_POINTS, replace=False))
    figure = new_drawing(f"error of {first}, {comparison.label(key)}", f"error of {arm}")
    end = 1.04 * max((float(one[present].max()) for one in errors if len(present)), default=0.0) or 1.0
    figure.add_scatter(x=[0, end], y=[0, end], mode="lines", line=thin_line(), hoverinfo="skip", showlegend=False)
    many = len(shown) > 300
    figure.add_scatter(
        x=errors[0][shown],
        y=errors[1][shown],
        mode="markers",
        marker={
            "color": LINES[comparison.arms.index(arm) % len(LINES)],
            "size": 5 if many else 8,
            "opacity": 0.5 if many else 0.75,
        },
        customdata=[html.escape(comparison.test_ids[index]) for index in shown.tolist()],
        hovertemplate=f"%{{customdata}}<br>{html.escape(first)} %{{x:.4g}}<br>{html.escape(arm)} %{{y:.4g}}"
        "<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(range=[0, end], constrain="domain")
    figure.update_yaxes(range=[0, end], scaleanchor="x", constrain="domain")
    n_better = int((errors[1][present] < errors[0][present]).sum())
    note = f"Below the line {arm} is better: {n_better:,} of {len(present):,} test crystals."
    if len(shown) < len(present):
        note += f" Random sample of {len(shown):,}."
    return Figure(f"Errors of {arm} and {first}", figure, f"Absolute errors by crystal. {note}", note, 460)
