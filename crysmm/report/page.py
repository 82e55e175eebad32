"""The report of a training run: ``report.html``, one file that fetches nothing.

The template escapes whatever stands in it, and the page's policy names the scripts that browsers may run by their
checksums, so that nothing in the data can become one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysmm.config.training import TrainingConfig
from crysmm.device import Machine
from crysmm.files import write_text_atomic
from crysmm.inference.assessment import Assessment
from crysmm.report import errors as by_error
from crysmm.report import figures, tables
from crysmm.report.errors import (
    N_WORST,
    Judged,
    by_crystal_system,
    by_element,
    by_size,
    crystal_errors,
    find_space_groups,
    worst_crystals,
)
from crysmm.report.figures import Figure, by_group
from crysmm.report.html import number, script_tags, security_policy, static_file
from crysmm.report.structure import structure_sources
from crysmm.report.tables import find_shared, shared_table
from crysmm.runs.data import TrainingData
from crysmm.runs.plots import TITLES
from crysmm.runs.run_folder import RunFolder
from crysmm.runs.summary import count
from crysmm.version import __version__

if TYPE_CHECKING:
    import jinja2

TARGETS_DRAWN = 4


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
        folder: of the run; the histories in it, and in those of an ensemble's members, are read.
        data: what was learned from; structures are read from the store one by one, some thousands at most.
        config: the settings.
        machine: what was computed on.
        metrics: what ``metrics.json`` holds.
        assessments: the predictions of each split.
    """
    write_text_atomic(folder.report, make_page(folder, data, config, machine, metrics, assessments))


def make_page(
    folder: RunFolder,
    data: TrainingData,
    config: TrainingConfig,
    machine: Machine,
    metrics: Mapping[str, Any],
    assessments: Mapping[str, Assessment],
) -> str:
    """The page as HTML; see :func:`write_report`."""
    from plotly.offline import get_plotlyjs

    judged = _judge(data, assessments)
    elements = by_element(judged.formulas, judged.errors.values)
    seen = set(data.elements)
    unseen = [group for group in elements if group.name not in seen]
    worst_rows = [judged.rows[place] for place in judged.errors.worst(N_WORST)]
    shared = find_shared(data.store, data.rows("train"), judged.rows, worst_rows)
    scripts = [get_plotlyjs(), *structure_sources(), static_file("page.js")]
    return _template().render(
        policy=security_policy(scripts),
        style=static_file("page.css"),
        scripts=script_tags(scripts),
        version=__version__,
        title=", ".join(data.store.target_names[:TARGETS_DRAWN]),
        subtitle=_subtitle(folder, data, config),
        split=TITLES[judged.split],
        n_judged=len(judged.rows),
        cards=tables.cards(metrics, judged.split),
        score_tables=tables.tables(metrics, judged.split),
        prediction_figures=_prediction_figures(data, assessments, judged),
        n_targets_left=max(0, len(data.store.target_names) - TARGETS_DRAWN) if data.scaler.classes is None else 0,
        learning_figures=_learning_figures(folder, metrics),
        group_figures=_group_figures(judged),
        errors=judged.errors,
        full_color=by_error.FULL_COLOR,
        cells=by_error.cells(elements, judged.errors.mean, [group.name for group in unseen]),
        elements=sorted(elements, key=lambda group: -group.error),
        worst=worst_crystals(judged, data.scaler, data.store.target_names, shared.counterparts),
        data_facts=tables.data_facts(data, config, judged.split, unseen),
        shared_table=shared_table(judged, shared),
        skipped_table=tables.skipped_table(data) if data.skipped else None,
        command=tables.command(config),
        settings=json.dumps(config.model_dump(mode="json"), indent=2),
        timing=tables.timing(metrics),
        environment=tables.environment(machine, metrics),
    )


def _judge(data: TrainingData, assessments: Mapping[str, Assessment]) -> Judged:
    """The split that says how good the model is: the test split, or the validation split where there is no other."""
    split = "test" if "test" in assessments else "val"
    targets, assessment = data.targets(split), assessments[split]
    errors = crystal_errors(
        data.scaler, targets, assessment.predictions, data.targets("train"), data.store.target_names
    )
    return Judged(split, data.store, data.rows(split), targets, assessment, errors)


def _subtitle(folder: RunFolder, data: TrainingData, config: TrainingConfig) -> str:
    source = "records in memory" if config.root_dir is None else config.root_dir.resolve().name
    head = "" if config.head.name == "vanilla" else f", {config.head.name} head"
    members = f", ensemble of {config.ensemble}" if config.ensemble > 1 else ""
    return f"{config.model.name}{head}{members}, trained on {source}; run {folder.path.resolve().name}"


def _prediction_figures(
    data: TrainingData, assessments: Mapping[str, Assessment], judged: Judged
) -> dict[str, list[Figure]]:
    """Predictions against the truth, by the target's name."""
    scaler, names = data.scaler, data.store.target_names
    if scaler.classes is not None:
        truth, probabilities = scaler.class_indices(judged.targets), judged.assessment.predictions
        found = [
            figures.confusions(scaler, truth, probabilities.argmax(axis=1), judged.split),
            figures.roc_curves(scaler, truth, probabilities),
            figures.reliability(truth, probabilities),
        ]
        return {names[0]: [figure for figure in found if figure is not None]}
    logarithmic = scaler.transform == "log10"
    drawn = {}
    for column, name in enumerate(names[:TARGETS_DRAWN]):
        points = [
            figures.Points(
                split,
                data.targets(split)[:, column],
                assessment.predictions[:, column],
                data.ids(split),
                [data.store.formulas[row] for row in data.rows(split)],
            )
            for split, assessment in assessments.items()
        ]
        drawn[name] = [
            figures.parity(name, points, logarithmic=logarithmic),
            figures.error_spread(name, points[-1], logarithmic=logarithmic),
        ]
    return drawn


def _learning_figures(folder: RunFolder, metrics: Mapping[str, Any]) -> list[Figure]:
    if "members" in metrics:
        histories = {name: _read_history(RunFolder(folder.path / name).history) for name in metrics["members"]}
        first = next(iter(histories.values()))[0]
        return [figures.of_members(histories, "mae" if "val_mae" in first else "loss")]
    history, measure = _read_history(folder.history), metrics["monitored"].removeprefix("val_")
    drawn = [
        figures.losses(history),
        figures.monitored(history, measure, metrics["best_epoch"], metrics["baseline"]),
    ]
    others = [name for name in history[0] if name.startswith("val_") and name not in ("val_loss", f"val_{measure}")]
    return [*drawn, *(figures.other_measure(history, name) for name in others)]


def _read_history(path: Path) -> figures.History:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _group_figures(judged: Judged) -> list[Figure]:
    places, space_groups = find_space_groups(judged.store, judged.rows)
    n_all, n_found = len(judged.rows), int((space_groups > 0).sum())
    note = f"Space groups of {n_found:,} of {n_all:,} crystals." if n_found < n_all else ""
    errors = judged.errors
    systems = by_crystal_system(space_groups, errors.values[places])
    sizes = by_size(judged.store.n_atoms[judged.rows], errors.values)
    drawn = [by_group("By crystal system", systems, errors, note)] if systems else []
    return [*drawn, by_group("By number of atoms in the cell", sizes, errors)]


@cache
def _template() -> jinja2.Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("crysmm.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": number, "count": count, "json": _figure_json}
    return environment.get_template("report.html")


def _figure_json(figure: Figure) -> str:
    """A drawing as JSON that may stand in a script element: no tag can end or begin in it."""
    return figure.drawing.to_json().replace("<", "\\u003c")
