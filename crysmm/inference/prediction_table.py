"""Tables of predictions: the columns of ``prediction_results_*_set.csv`` and of ``crysmm predict``.

One target has the column ``prediction``, several have ``prediction_<name>`` each. Classes have ``prediction``, the most
probable class, and ``probability_<class>`` each. Where available, ``spread``, ``lower`` and ``upper`` follow, named in
the same way, then ``distance_percentile`` and ``domain`` (see :class:`Assessment`), and, if one is known, ``unit``.
Numbers are in original units and written with all digits. Of several targets, the cell of one that a crystal lacks is
empty.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import numpy as np

from crysmm.data.building import GraphedRecord
from crysmm.data.scaler import TargetScaler, class_label
from crysmm.errors import InputError, shown
from crysmm.files import replacing, write_csv_atomic
from crysmm.inference.assessment import Assessment, unseen_elements
from crysmm.inference.model_files import PARQUET
from crysmm.io.source import ReadingNote, SkippedRow

TEXTS = frozenset({"id", "domain", "unit", "reason", "note"})  # columns of texts
PROBABILITY = "probability_"  # begins the name of the column of a class
ROWS_PER_GROUP = 1 << 16  # of a Parquet file
MOST_EXAMPLES = 3  # of failures and of notes, kept in a summary


def prediction_columns(
    scaler: TargetScaler, names: Sequence[str], assessment: Assessment, units: Sequence[str | None] = ()
) -> list[str]:
    """Return the names of the columns of predictions and their reliability.

    Args:
        scaler: Target scaler of the model.
        names: Names of the targets.
        assessment: Assessment with any number of rows; only which of its attributes are None matters.
        units: Unit of each target, None where unknown; empty if none is known.
    """
    if scaler.classes is None:
        parts, columns = list(names), _named("prediction", names)
    else:
        parts = [class_label(value) for value in scaler.classes]
        columns = ["prediction", *(f"{PROBABILITY}{label}" for label in parts)]
    numbers = {"spread": assessment.spread, "lower": assessment.lower, "upper": assessment.upper}
    columns += [column for kind, values in numbers.items() if values is not None for column in _named(kind, parts)]
    notes = {"distance_percentile": assessment.distance_percentile, "domain": assessment.domain}
    columns += [kind for kind, values in notes.items() if values is not None]
    return [*columns, *(_named("unit", names) if any(units) else [])]


def prediction_cells(
    scaler: TargetScaler, assessment: Assessment, row: int, units: Sequence[str | None] = ()
) -> list[str]:
    """Return the cells of one crystal, in the order of :func:`prediction_columns`."""
    prediction = assessment.predictions[row]
    cells = [] if scaler.classes is None else [class_label(scaler.classes[int(np.argmax(prediction))])]
    for values in (assessment.predictions, assessment.spread, assessment.lower, assessment.upper):
        if values is not None:
            cells += [repr(float(number)) for number in values[row]]
    if assessment.distance_percentile is not None:
        cells.append(repr(float(assessment.distance_percentile[row])))
    if assessment.domain is not None:
        cells.append(assessment.domain[row])
    return [*cells, *((unit or "" for unit in units) if any(units) else [])]


def holds_text(column: str) -> bool:
    """Return whether a column of a table of predictions holds text rather than numbers."""
    return column in TEXTS or column.startswith("unit_")


def places_of_numbers(columns: Sequence[str], targets: Sequence[str]) -> dict[str, int]:
    """Return the places of the numbers in a line of a table of predictions, by column, and by target its prediction.

    A target that has the name of another column, such as ``upper``, is meant by it.
    """
    of_targets = dict(zip(targets, map(columns.index, _named("prediction", targets)), strict=True))
    numbers = ((name, place) for place, name in enumerate(columns) if not holds_text(name))
    return of_targets | {name: place for name, place in numbers if name not in of_targets}


def write_table(path: Path, columns: Sequence[str], lines: Iterable[list[str]]) -> int:
    """Write a table as the lines come: Parquet if the name ends so, with numbers as such, else CSV.

    Args:
        path: File to write, or to replace.
        columns: Names of the columns.
        lines: Cells of each line.

    Returns:
        The number of lines.
    """
    write = _write_parquet if path.suffix == PARQUET else write_csv_atomic
    written = count()
    write(path, columns, (line for line, _ in zip(lines, written, strict=False)))
    return next(written)


def _write_parquet(path: Path, columns: Sequence[str], lines: Iterable[list[str]]) -> None:
    """Write cells to a Parquet file; an empty cell of a column of numbers is null."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(name, pa.string() if holds_text(name) else pa.float64()) for name in columns])
    with replacing(path) as temporary, ParquetWriter(temporary, schema, compression="zstd") as writer:
        remaining = iter(lines)
        while some := list(islice(remaining, ROWS_PER_GROUP)):
            cells = dict(zip(columns, zip(*some, strict=True), strict=True))
            values = {
                name: column if holds_text(name) else [float(cell) if cell else None for cell in column]
                for name, column in cells.items()
            }
            writer.write_table(pa.table(values, schema))


def write_predictions(
    path: Path,
    ids: Sequence[str],
    targets: np.ndarray,
    assessment: Assessment,
    scaler: TargetScaler,
    names: Sequence[str],
    units: Sequence[str | None] = (),
) -> None:
    """Write the predictions of one split: ``id``, ``target`` and the columns of :func:`prediction_columns`.

    Args:
        path: CSV file to write.
        ids: Ids of the crystals, ``[n]``.
        targets: Targets in original units, NaN where missing, ``[n, n_targets]``; for classes, the class is written.
        assessment: Predictions for the crystals.
        scaler: Target scaler of the model.
        names: Names of the targets.
        units: Unit of each target, None where unknown; empty if none is known.
    """
    if scaler.classes is not None:
        classes = [class_label(value) for value in scaler.classes]
        truth = ([classes[index]] for index in scaler.class_indices(targets))
    else:
        truth = (["" if math.isnan(number) else repr(float(number)) for number in row] for row in targets)
    header = ["id", *_named("target", names), *prediction_columns(scaler, names, assessment, units)]
    cells = (prediction_cells(scaler, assessment, row, units) for row in range(len(ids)))
    rows = ([name, *true, *predicted] for name, true, predicted in zip(ids, truth, cells, strict=True))
    write_csv_atomic(path, header, rows)


def _named(kind: str, names: Sequence[str]) -> list[str]:
    """Return names of columns: ``kind`` alone for one target, ``kind_<name>`` for several."""
    return [kind] if len(names) == 1 else [f"{kind}_{name}" for name in names]


@dataclass(frozen=True)
class PredictionTable:
    """Content of a table written by :func:`write_predictions`.

    Args:
        rows: Cells by column, by id; targets, predictions and probabilities are finite numbers, except for empty
            cells of several targets.
        columns: Names of all columns.
        targets: Names of the columns of targets.
        predictions: Names of the columns of their predictions, in the same order.
    """

    rows: dict[str, dict[str, str]]
    columns: list[str]
    targets: list[str]
    predictions: list[str]

    @property
    def classes(self) -> list[str]:
        """The predicted classes; none of values."""
        return [name.removeprefix(PROBABILITY) for name in self.columns if name.startswith(PROBABILITY)]

    def truth(self, identifier: str) -> np.ndarray:
        """Return the targets of a crystal, NaN where missing, ``[n_targets]``."""
        return np.array([float(self.rows[identifier][column] or "nan") for column in self.targets])


def read_predictions(path: Path) -> PredictionTable:
    """Read a table written by :func:`write_predictions`.

    Raises:
        InputError: The file does not exist or is not such a table, or a cell is missing or not a number.
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
        # DictReader collects surplus cells under the key None, and fills missing ones with None.
        if None in row or None in row.values():
            raise InputError(
                f"{path} is damaged in row {number}: the number of cells does not match the header; train the run "
                "again, or restore the file"
            )
        for name in numbers:
            if row[name] == "" and name in targets and len(targets) > 1:
                continue
            try:
                is_finite = math.isfinite(float(row[name]))
            except ValueError:
                is_finite = False
            if not is_finite:
                raise InputError(
                    f"{path} is damaged in row {number}: expected a number under {name}, got {shown(row[name])}"
                )
    return PredictionTable({row["id"]: row for row in rows}, columns, targets, predictions)


@dataclass
class PredictionSummary:
    """Numbers of predicted and failed rows of a source, with examples.

    Args:
        n_predicted: Number of rows with a prediction.
        n_failed: Number of rows with a reason instead.
        failures: First few failed rows.
        unseen: Number of structures by element, for elements that no training structure contains.
        n_far: Number of structures farther from the training structures than nearly all validation structures.
        n_undescribed: Number of structures without a description, for a model that reads texts.
        undescribed: Reasons for the first few of these, by id.
        n_noted: Number of structures with a note on how they were read.
        notes: First few of these notes.
        n_kept: Number of lines in the table, which is smaller if some were selected.
    """

    n_predicted: int = 0
    n_failed: int = 0
    failures: list[SkippedRow] = field(default_factory=list)
    unseen: Counter[str] = field(default_factory=Counter)
    n_far: int = 0
    n_undescribed: int = 0
    undescribed: dict[str, str] = field(default_factory=dict)
    n_noted: int = 0
    notes: list[ReadingNote] = field(default_factory=list)
    n_kept: int = 0

    @property
    def n_rows(self) -> int:
        """Number of all rows."""
        return self.n_predicted + self.n_failed

    def count(
        self,
        results: Sequence[GraphedRecord | SkippedRow],
        assessment: Assessment,
        elements: Sequence[str] | None,
        undescribed: Mapping[str, str],
    ) -> None:
        """Add the rows of a batch.

        Args:
            results: Rows, read or skipped.
            assessment: Assessment of the rows that were read.
            elements: Symbols of the elements in the training structures; None if unknown.
            undescribed: Reasons why structures have no description, by id.
        """
        failed = [result for result in results if isinstance(result, SkippedRow)]
        records = [result.record for result in results if isinstance(result, GraphedRecord)]
        notes = [ReadingNote(record.id, record.file, "; ".join(record.notes)) for record in records if record.notes]
        unseen = Counter(symbol for record in records for symbol in unseen_elements(elements, record.crystal.elements))
        n_far = int(assessment.is_far.sum())
        self.add(
            PredictionSummary(
                len(records), len(failed), failed, unseen, n_far, len(undescribed), dict(undescribed), len(notes), notes
            )
        )

    def add(self, other: PredictionSummary) -> None:
        """Add the rows of another summary; of the examples, the first few are kept."""
        self.n_predicted += other.n_predicted
        self.n_failed += other.n_failed
        self.failures = [*self.failures, *other.failures][:MOST_EXAMPLES]
        self.unseen.update(other.unseen)
        self.n_far += other.n_far
        self.n_undescribed += other.n_undescribed
        self.undescribed = dict(islice((self.undescribed | other.undescribed).items(), MOST_EXAMPLES))
        self.n_noted += other.n_noted
        self.notes = [*self.notes, *other.notes][:MOST_EXAMPLES]
