"""Predictions as tables: the columns of ``prediction_results_*_set.csv`` and of ``crysmm predict``.

One target: ``prediction``. Several: ``prediction_<name>`` each. Classes: ``prediction``, the most probable class,
and ``probability_<class>`` each. Then, where they are known, ``spread``, ``lower`` and ``upper``, named likewise,
``distance_percentile`` and ``domain`` (see :class:`Assessment`). Numbers stand in original units with every digit.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crysmm.data.building import GraphedRecord
from crysmm.data.scaler import TargetScaler, class_label
from crysmm.errors import InputError, shown
from crysmm.files import write_csv_atomic
from crysmm.inference.assessment import Assessment, Assessor
from crysmm.io.source import ReadingNote, SkippedRow

MOST_FAILURES = 3  # kept in a summary, and as many notes


def prediction_columns(scaler: TargetScaler, names: Sequence[str], assessment: Assessment) -> list[str]:
    """Names of the columns that hold a prediction and what is known of it; of the assessment no row is read."""
    if scaler.classes is None:
        parts, columns = list(names), _named("prediction", names)
    else:
        parts = [class_label(value) for value in scaler.classes]
        columns = ["prediction", *(f"probability_{label}" for label in parts)]
    numbers = {"spread": assessment.spread, "lower": assessment.lower, "upper": assessment.upper}
    columns += [column for kind, values in numbers.items() if values is not None for column in _named(kind, parts)]
    notes = {"distance_percentile": assessment.distance_percentile, "domain": assessment.domain}
    return [*columns, *(kind for kind, values in notes.items() if values is not None)]


def prediction_cells(scaler: TargetScaler, assessment: Assessment, row: int) -> list[str]:
    """One crystal's cells under :func:`prediction_columns`."""
    prediction = assessment.predictions[row]
    cells = [] if scaler.classes is None else [class_label(scaler.classes[int(np.argmax(prediction))])]
    for values in (assessment.predictions, assessment.spread, assessment.lower, assessment.upper):
        if values is not None:
            cells += [repr(float(number)) for number in values[row]]
    if assessment.distance_percentile is not None:
        cells.append(repr(float(assessment.distance_percentile[row])))
    if assessment.domain is not None:
        cells.append(assessment.domain[row])
    return cells


def write_predictions(
    path: Path,
    ids: Sequence[str],
    targets: np.ndarray,
    assessment: Assessment,
    scaler: TargetScaler,
    names: Sequence[str],
) -> None:
    """Write the predictions of one split: ``id,target,prediction`` and what is known of them.

    Args:
        path: of the CSV file.
        ids: one a crystal.
        targets: ``[n, n_targets]`` original units; classes are written as their class.
        assessment: the predictions.
        scaler: says whether these are values or probabilities.
        names: one a target.
    """
    if scaler.classes is not None:
        classes = [class_label(value) for value in scaler.classes]
        truth = ([classes[index]] for index in scaler.class_indices(targets))
    else:
        truth = ([repr(float(number)) for number in row] for row in targets)
    header = ["id", *_named("target", names), *prediction_columns(scaler, names, assessment)]
    cells = (prediction_cells(scaler, assessment, row) for row in range(len(ids)))
    rows = ([name, *true, *predicted] for name, true, predicted in zip(ids, truth, cells, strict=True))
    write_csv_atomic(path, header, rows)


@dataclass(frozen=True)
class PredictionTable:
    """A table of :func:`write_predictions`, every row of which is whole.

    Args:
        rows: by id, the cells by column; those of targets, predictions and probabilities are finite numbers.
        columns: names of all columns.
        targets: names of the columns with targets.
        predictions: names of the columns with their predictions, in the same order.
    """

    rows: dict[str, dict[str, str]]
    columns: list[str]
    targets: list[str]
    predictions: list[str]


def read_predictions(path: Path) -> PredictionTable:
    """Read a table of :func:`write_predictions`.

    Raises:
        InputError: the file is not there, is no such table, or a cell is missing or no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    targets = [name for name in columns if name.partition("_")[0] == "target"]
    predictions = [name.replace("target", "prediction", 1) for name in targets]
    if not rows or not targets or not {"id", *predictions} <= set(columns):
        raise InputError(f"{path} is not a table of predictions; expected the columns id, target and prediction")
    numbers = [name for name in columns if name.partition("_")[0] in ("target", "prediction", "probability")]
    for number, row in enumerate(rows, 1):
        _refuse_damaged(row, numbers, f"{path} is damaged in row {number}")
    return PredictionTable({row["id"]: row for row in rows}, columns, targets, predictions)


def _refuse_damaged(row: Mapping[str | None, str | None], numbers: Sequence[str], where: str) -> None:
    if None in row or None in row.values():
        raise InputError(f"{where}: it has not a cell for each column; train the run again, or restore the file")
    for name in numbers:
        if not _is_number(str(row[name])):
            raise InputError(f"{where}: expected a number under {name}, got {shown(row[name])}")


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _named(kind: str, names: Sequence[str]) -> list[str]:
    return [kind] if len(names) == 1 else [f"{kind}_{name}" for name in names]


@dataclass
class PredictionSummary:
    """What became of the rows of a source.

    Args:
        output: the table written.
        n_predicted: rows with a prediction.
        n_failed: rows with a reason instead.
        failures: the first few of those.
        unseen: structures by element that no training structure held.
        n_far: structures farther from the training structures than nearly all validation structures.
        n_validation: structures the intervals are calibrated on; None where there are no intervals.
        undescribed: why there was no text, by id, for a model that reads texts.
        n_noted: structures with a note on how they were read.
        notes: the first few of these.
    """

    output: Path
    n_predicted: int = 0
    n_failed: int = 0
    failures: list[SkippedRow] = field(default_factory=list)
    unseen: Counter[str] = field(default_factory=Counter)
    n_far: int = 0
    n_validation: int | None = None
    undescribed: dict[str, str] = field(default_factory=dict)
    n_noted: int = 0
    notes: list[ReadingNote] = field(default_factory=list)

    def count(self, results: Sequence[GraphedRecord | SkippedRow], assessment: Assessment, assessor: Assessor) -> None:
        """Take note of the rows of a batch.

        Args:
            results: the rows.
            assessment: of those that were read.
            assessor: knows the elements of the training structures.
        """
        failed = [result for result in results if isinstance(result, SkippedRow)]
        self.n_failed += len(failed)
        self.n_predicted += len(results) - len(failed)
        self.failures += failed[: MOST_FAILURES - len(self.failures)]
        self.n_far += int(assessment.is_far.sum())
        for result in results:
            if isinstance(result, GraphedRecord):
                record = result.record
                self.unseen.update(assessor.unseen(record.crystal.elements))
                self.n_noted += bool(record.notes)
                if record.notes and len(self.notes) < MOST_FAILURES:
                    self.notes.append(ReadingNote(record.id, record.file, "; ".join(record.notes)))
