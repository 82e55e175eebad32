"""The page of ``crysmm runs``: learning curves, and errors crystal by crystal where runs share test crystals."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crysmm import __version__
from crysmm.comparison.overview import HEADER, FoundRun
from crysmm.comparison.page import scatter_figures, score_figures
from crysmm.comparison.results import ArmResult, Comparison, Key, Pair
from crysmm.comparison.statistics import Score, paired_difference, scores_of
from crysmm.errors import InputError
from crysmm.files import refuse_other_file, write_text_atomic
from crysmm.inference.prediction_table import PredictionTable, read_predictions
from crysmm.report.figures import Figure, History, curves
from crysmm.report.html import embed_scripts, static_file
from crysmm.report.page import template
from crysmm.report.tables import Table
from crysmm.runs.history import read_history
from crysmm.runs.plots import METRIC_NAMES
from crysmm.runs.run_folder import MEMBER, RunFolder

MARK = "<!-- written by crysmm runs -->"
FEWEST_SHARED = 2  # test crystals, from which there is a standard error


class Predicted(NamedTuple):
    """Run with its predictions for the test split and its scores on the validation split."""

    run: FoundRun
    test: PredictionTable
    val: Mapping[Key, Score]


@dataclass
class RunGroup:
    """Runs of one target that share test crystals.

    Args:
        runs: Runs with their predictions.
        shared: Ids of the test crystals of all of them.
    """

    runs: list[Predicted]
    shared: list[str]


def refuse_page(path: Path) -> None:
    """Refuse a file that cannot be written, or that exists and is not a page of ``crysmm runs``.

    Raises:
        InputError: The file cannot be used.
    """
    refuse_other_file(path, "page of crysmm runs", lambda page: MARK in page.read_text("utf-8", "replace"))


def write_runs_page(path: Path, runs: Sequence[FoundRun], notes: Sequence[str]) -> list[str]:
    """Write the page.

    Args:
        path: HTML file to write.
        runs: Runs to show.
        notes: Notes for the user.

    Returns:
        Runs that are not compared, and the comparisons in words.
    """
    from plotly.offline import get_plotlyjs

    scripts, policy = embed_scripts([get_plotlyjs(), static_file("page.js")])
    groups, not_compared = group_by_test_crystals(runs)
    drawn, not_drawn = learning_curves(runs)
    comparisons = [compared(group, path.parent) for group in groups if len(group.runs) > 1]
    reports = {run.name: os.path.relpath(run.folder.report, path.parent) for run in runs if run.folder.report.is_file()}
    page = template("runs.html").render(
        policy=policy,
        mark=MARK,
        style=static_file("page.css"),
        scripts=scripts,
        version=__version__,
        table=Table(
            "Each at its epoch with the best validation score", HEADER, [run.row() for run in runs], is_text=True
        ),
        notes=[*notes, *not_compared, *not_drawn],
        curves=drawn,
        comparisons=[(one, score_figures(one), scatter_figures(one)) for one in comparisons],
        reports=reports,
    )
    write_text_atomic(path, page)
    return [*not_compared, *(pair.text(one.units) for one in comparisons for pair in one.pairs)]


def learning_curves(runs: Sequence[FoundRun]) -> tuple[list[Figure], list[str]]:
    """Plot the validation score by epoch; of an ensemble, that of its first member.

    Returns:
        A figure per target and metric, and notes on histories that cannot be read.
    """
    # A run that has not ended does not know its targets, but another on the same data may.
    known = {_data_of(run): run.units for run in runs if run.units}
    found: dict[tuple[str, str, str | None], dict[str, History]] = defaultdict(dict)
    notes = []
    for run in runs:
        member = RunFolder(run.folder.path / f"{MEMBER}1")
        name, folder = (run.name, run.folder) if run.folder.history.is_file() else (f"{run.name}, member 1", member)
        try:
            history = read_history(folder.history) if folder.history.is_file() else []
        except InputError as error:
            notes.append(f"{run.name} has no learning curve: {error}")
            continue
        metric = next((metric for metric in METRIC_NAMES if history and f"val_{metric}" in history[0]), None)
        if metric is not None:
            units = run.units or known.get(_data_of(run), {})
            found[", ".join(units), metric, next(iter(units.values()), None)][name] = history
    figures = [
        curves(histories, metric, unit, f"{target} per run" if target else "per run")
        for (target, metric, unit), histories in found.items()
    ]
    return figures, notes


def _data_of(run: FoundRun) -> tuple[Path | None, str | None]:
    return run.config.root_dir, dict(run.config).get("target_key")


def group_by_test_crystals(runs: Sequence[FoundRun]) -> tuple[list[RunGroup], list[str]]:
    """Group finished runs that predict the same targets and all share at least half of the test crystals of each.

    Returns:
        The groups, and notes on tables that cannot be read.
    """
    groups: list[RunGroup] = []
    notes = []
    for run in runs:
        if run.results is None or run.results.test is None:
            continue
        try:
            table = read_predictions(run.folder.predictions("test"))
            val = scores_of(read_predictions(run.folder.predictions("val")))
        except InputError as error:
            notes.append(f"{run.name} is not compared: {error}")
            continue
        predicted = Predicted(run, table, val)
        for group in groups:
            shared = _shared(group, predicted)
            most = max(len(one.test.rows) for one in (*group.runs, predicted))
            if len(shared) >= max(FEWEST_SHARED, most / 2):
                group.runs.append(predicted)
                group.shared = shared
                break
        else:
            groups.append(RunGroup([predicted], list(table.rows)))
    return groups, notes


def _shared(group: RunGroup, new: Predicted) -> list[str]:
    """Return the test crystals that a run shares with a group; none if it predicts other values or in other units."""
    first = group.runs[0]
    tables = new.test, first.test
    kinds = [[*one.targets, *(name for name in one.columns if "probability" in name)] for one in tables]
    ids = [name for name in group.shared if name in new.test.rows]
    if not ids or kinds[0] != kinds[1] or new.run.units != first.run.units:
        return []
    ours, theirs = (np.array([one.truth(name) for name in ids]) for one in tables)
    return list(compress(ids, np.isclose(ours, theirs, equal_nan=True).all(axis=1)))


def compared(group: RunGroup, folder: Path) -> Comparison:
    """Compare the runs of a group with its first over the crystals that all of them share."""
    results = []
    for run, table, val in group.runs:
        assert run.results is not None
        shared = replace(table, rows={name: table.rows[name] for name in group.shared})
        n_train, seconds = run.sizes.get("train", 0), run.results.seconds
        results.append(ArmResult(run.name, None, None, n_train, run.folder.path, val, scores_of(shared), seconds))
    first = results[0]
    pairs = [
        Pair(one.arm, first.arm, None, key[0], paired_difference(key[1], [one.test[key]], [first.test[key]]))
        for one in results[1:]
        for key in first.test
    ]
    units = group.runs[0].run.units
    return Comparison(folder, group.shared, results, pairs, units=units if len(units) > 1 else _of_one(units))


def _of_one(units: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the unit of the only target under the empty name that scores have for it."""
    return {"": next(iter(units.values()), None)}
