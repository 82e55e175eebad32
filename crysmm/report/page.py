"""The report of a training run: ``report.html``, a single file that loads nothing from elsewhere.

The template escapes all text, and the security policy of the page lists the checksums of the only scripts that browsers
may run, so no text in the data can become a script.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crysmm import __version__
from crysmm.config.training import TrainingConfig
from crysmm.data.units import named, number
from crysmm.device import Machine
from crysmm.errors import count, first_of
from crysmm.files import write_text_atomic
from crysmm.inference.assessment import Assessment
from crysmm.report import figures, tables
from crysmm.report.errors import (
    FULL_COLOR,
    N_WORST,
    EvaluatedSplit,
    by_crystal_system,
    by_element,
    by_size,
    crystal_errors,
    find_space_groups,
    periodic_table,
    worst_crystals,
)
from crysmm.report.figures import Figure
from crysmm.report.html import embed_scripts, static_file
from crysmm.report.structure import structure_sources
from crysmm.runs.data import TrainingData
from crysmm.runs.history import read_history
from crysmm.runs.plots import METRIC_NAMES
from crysmm.runs.run_folder import TITLES, RunFolder

if TYPE_CHECKING:
    import jinja2

MAX_TARGETS = 4  # with figures


def write_report(
    folder: RunFolder,
    data: TrainingData,
    config: TrainingConfig,
    machine: Machine,
    metrics: Mapping[str, Any],
    assessments: Mapping[str, Assessment],
) -> None:
    """Write ``report.html``.

    Args:
        folder: Run folder; the learning curves are read from it and from the folders of ensemble members.
        data: Data of the run; at most a few thousand structures are read from the store.
        config: Settings of the run.
        machine: Device and versions of the run.
        metrics: Content of ``metrics.json``.
        assessments: Predictions for each split.
    """
    from plotly.offline import get_plotlyjs

    # The validation split is evaluated only if there is no test split.
    split = "test" if "test" in assessments else "val"
    names, rows, predictions = data.store.target_names, data.rows(split), assessments[split].predictions
    errors = crystal_errors(data.scaler, data.targets(split), predictions, data.targets("train"), names, data.units)
    evaluated = EvaluatedSplit(split, data.store, rows, data.targets(split), assessments[split], errors)

    elements = by_element([data.store.formulas[row] for row in rows], errors.values)
    known = set(data.elements)
    unseen = [group for group in elements if group.name not in known]
    # The worst crystals are shown with their counterparts, so they are compared first.
    worst_rows = [rows[index] for index in errors.worst(N_WORST)]
    overlap = tables.find_overlap(data.store, data.rows("train"), rows, worst_rows)
    scripts, policy = embed_scripts([get_plotlyjs(), *structure_sources(), static_file("page.js")])
    source = "records in memory" if config.root_dir is None else config.root_dir.resolve().name
    head = "" if config.head.name == "vanilla" else f", {config.head.name} head"
    members = f", ensemble of {config.ensemble}" if config.ensemble > 1 else ""
    page = template("report.html").render(
        policy=policy,
        style=static_file("page.css"),
        scripts=scripts,
        version=__version__,
        title=", ".join(named(names, data.units)[:MAX_TARGETS]),
        subtitle=f"{config.network}{head}{members}, trained on {source}; run {folder.path.resolve().name}",
        split=TITLES[split],
        n_crystals=len(rows),
        cards=tables.score_cards(metrics, split),
        score_tables=tables.score_tables(metrics, split),
        prediction_figures=_prediction_figures(data, assessments, evaluated),
        n_targets_left=max(0, len(names) - MAX_TARGETS) if data.scaler.classes is None else 0,
        learning_figures=_learning_figures(folder, metrics, data.units[0]),
        group_figures=_group_figures(evaluated),
        errors=errors,
        full_color=FULL_COLOR,
        cells=periodic_table(elements, errors.mean, [group.name for group in unseen]),
        elements=sorted(elements, key=lambda group: -group.error),
        worst=worst_crystals(evaluated, data.scaler, names, data.units, overlap.counterparts),
        data_facts=tables.data_facts(data, config, split, unseen),
        overlap_table=tables.overlap_table(evaluated, overlap),
        skipped_table=tables.skipped_table(data) if data.skipped else None,
        command=tables.command(config),
        settings=json.dumps(config.model_dump(mode="json"), indent=2),
        timing=tables.timing(metrics),
        environment=tables.environment(machine, metrics),
    )
    write_text_atomic(folder.report, page)


def _prediction_figures(
    data: TrainingData, assessments: Mapping[str, Assessment], evaluated: EvaluatedSplit
) -> dict[str, list[Figure]]:
    """Plot predictions against the truth, by name of the target."""
    scaler, names = data.scaler, data.store.target_names
    if scaler.classes is not None:
        truth, probabilities = scaler.class_indices(evaluated.targets), evaluated.assessment.predictions
        found = [
            figures.confusion_matrix(scaler, truth, probabilities.argmax(axis=1), evaluated.split),
            figures.roc_curves(scaler, truth, probabilities),
            figures.reliability(truth, probabilities),
        ]
        return {names[0]: [figure for figure in found if figure is not None]}
    logarithmic = scaler.transform == "log10"
    drawn = {}
    for column, name in enumerate(names[:MAX_TARGETS]):
        points = []
        for split, assessment in assessments.items():
            targets = data.targets(split)[:, column]
            present = np.flatnonzero(~np.isnan(targets))
            rows = [data.rows(split)[index] for index in present]
            if rows:
                ids, formulas = ([values[row] for row in rows] for values in (data.store.ids, data.store.formulas))
                predictions = assessment.predictions[present, column]
                points.append(figures.Points(split, targets[present], predictions, ids, formulas))
        if points[-1].split == evaluated.split:
            drawn[name] = [
                figures.parity(name, data.units[column], points, logarithmic=logarithmic),
                figures.error_distribution(name, data.units[column], points[-1], logarithmic=logarithmic),
            ]
    return drawn


def _learning_figures(folder: RunFolder, metrics: Mapping[str, Any], unit: str | None) -> list[Figure]:
    """Plot the learning curves of a run, or of the members of an ensemble; the MAE of a single target has a unit."""
    if "members" in metrics:
        histories = {name: read_history(RunFolder(folder.path / name).history) for name in metrics["members"]}
        first = next(iter(histories.values()))[0]
        metric = next(name for name in METRIC_NAMES if f"val_{name}" in first)
        return [figures.curves(histories, metric, unit, "per member")]
    if not folder.history.is_file():  # a Gaussian process has no epochs
        return []
    history, metric = read_history(folder.history), metrics["monitored"].removeprefix("val_")
    others = [name for name in history[0] if name.startswith("val_") and name not in ("val_loss", f"val_{metric}")]
    return [
        figures.losses(history),
        figures.monitored(history, metric, metrics["best_epoch"], metrics["baseline"], unit),
        *(figures.validation_curve(history, name) for name in others),
    ]


def _group_figures(evaluated: EvaluatedSplit) -> list[Figure]:
    """Plot the errors by crystal system, if any space group was found, and by cell size."""
    errors, n_all = evaluated.errors, len(evaluated.rows)
    sample, space_groups = find_space_groups(evaluated.store, evaluated.rows)
    n_found = int((space_groups > 0).sum())
    drawn = []
    if systems := by_crystal_system(space_groups, errors.values[sample]):
        note = f"Space groups of {n_found:,} of {n_all:,} crystals." if n_found < n_all else ""
        drawn.append(figures.errors_by_group("By crystal system", systems, errors, note))
    sizes = by_size(evaluated.store.n_atoms[evaluated.rows], errors.values)
    return [*drawn, figures.errors_by_group("By number of atoms in the cell", sizes, errors)]


@cache
def template(name: str) -> jinja2.Template:
    """Return a page template, which escapes all text and has filters for numbers, counts and figures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    def figure_json(figure: Figure) -> str:
        # "<" is escaped, so that no text in the data can end the script element.
        text: str = figure.drawing.to_json()
        return text.replace("<", "\\u003c")

    environment = Environment(
        loader=PackageLoader("crysmm.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": number, "count": count, "first_of": first_of, "json": figure_json}
    return environment.get_template(name)
