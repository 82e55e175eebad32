"""Answers of the app: the predictions of ``crysmm predict``, and everything else that is known about each crystal.

Nothing here depends on a browser or on gradio.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Any

from crysmm import __version__
from crysmm.crystals.crystal import Crystal, cell_parameters
from crysmm.data.building import GraphedRecord
from crysmm.data.estimate import format_size
from crysmm.data.scaler import class_label
from crysmm.data.space_groups import find_space_group
from crysmm.errors import InputError
from crysmm.explain.explanation import explain_crystal
from crysmm.explain.tables import CrystalExplanation
from crysmm.inference import COVERAGE
from crysmm.inference.assessment import Assessment
from crysmm.inference.domain import Neighbor
from crysmm.inference.model_folder import ModelDescription, read_description
from crysmm.inference.predictor import Predictor, load
from crysmm.io.files_source import FileRow, FilesSource
from crysmm.io.source import ReadingOptions, SkippedRow
from crysmm.zoo import GROUPS, ZOO, shipped_names

MAX_FILE_SIZE = 20 << 20  # bytes
MAX_FILES = 200  # at a time
MODELS_IN_MEMORY = 4


@dataclass(frozen=True)
class Value:
    """One number that a model predicts for a crystal.

    Args:
        name: Name of the target, or the class whose probability this is.
        unit: Unit of the target, if it is known.
        value: Value in original units, or probability.
        spread: Standard deviation of the members of an ensemble; None for a single model.
        lower: Lower end of the interval; -inf if there are too few validation crystals, None without an interval.
        upper: Upper end of the interval.
    """

    name: str
    unit: str | None
    value: float
    spread: float | None = None
    lower: float | None = None
    upper: float | None = None

    @property
    def is_bounded(self) -> bool:
        """True if there is an interval with finite ends."""
        return all(end is not None and math.isfinite(end) for end in (self.lower, self.upper))


@dataclass(frozen=True)
class Answer:
    """Prediction for one crystal and everything else known about it.

    Args:
        id: Name of the file.
        crystal: Structure.
        space_group: Number of the space group, 1 to 230, or 0 if it was not found.
        values: One value per target, or one per class.
        predicted_class: Most probable class; None if the model predicts values.
        distance_percentile: Percentage of validation crystals that are closer to the training crystals.
        domain: Difference from the training crystals; empty if there is none.
        nearest: Nearest training crystals; None for a model without calibration.
        notes: Notes on reading the file.
    """

    id: str
    crystal: Crystal
    space_group: int
    values: list[Value]
    predicted_class: str | None
    distance_percentile: float | None
    domain: str
    nearest: list[Neighbor] | None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the content for the JSON file."""
        lengths, angles = cell_parameters(self.crystal.lattice)
        values = [asdict(value) for value in self.values]
        for value in values:
            for name, number in value.items():
                if isinstance(number, float) and not math.isfinite(number):
                    value[name] = None  # JSON has no infinity
        return {
            "id": self.id,
            "formula": self.crystal.formula,
            "n_atoms": len(self.crystal),
            "space_group": self.space_group or None,
            "cell_lengths_angstrom": lengths.tolist(),
            "cell_angles_degrees": angles.tolist(),
            "volume_cubic_angstrom": self.crystal.volume,
            "predicted_class": self.predicted_class,
            "values": values,
            "distance_percentile": self.distance_percentile,
            "domain": self.domain,
            "notes": list(self.notes),
            "nearest": None
            if self.nearest is None
            else [{**near.crystal._asdict(), "distance": near.distance} for near in self.nearest],
        }


@dataclass(frozen=True)
class Answers:
    """Answers for several files.

    Args:
        model: Name of the model.
        columns: Columns of the table that ``crysmm predict`` writes.
        rows: Rows of that table, one per file.
        results: Answer or reason for its absence, one per file, in the same order.
        undescribed: Reasons for missing descriptions by id, for models that read descriptions.
    """

    model: str
    columns: list[str]
    rows: list[list[str]]
    results: list[Answer | SkippedRow]
    undescribed: dict[str, str]

    @property
    def found(self) -> list[Answer]:
        """Answers for the files that could be predicted."""
        return [result for result in self.results if isinstance(result, Answer)]

    @property
    def failed(self) -> list[SkippedRow]:
        """Files that could not be predicted, with the reasons."""
        return [result for result in self.results if isinstance(result, SkippedRow)]

    def table(self) -> str:
        """Return the table that ``crysmm predict`` writes, as CSV."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def json(self, explanation: CrystalExplanation | None = None) -> str:
        """Return everything as JSON.

        Args:
            explanation: Explanation of the crystal if there is only one.
        """
        content = {
            "crysmm": __version__,
            "model": self.model,
            "coverage": COVERAGE,
            "crystals": [answer.to_dict() for answer in self.found],
            "failed": [{"id": row.id, "reason": row.reason} for row in self.failed],
            "explanation": None if explanation is None else asdict(explanation),
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


class Uploads(FilesSource):
    """Uploaded structure files, identified by their names; files that are too large are not read.

    Args:
        files: Paths of the files.

    Raises:
        InputError: There are too many files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        if len(files) > MAX_FILES:
            raise InputError(
                f"{len(files)} files are too many for the app, which takes up to {MAX_FILES} at a time; upload fewer, "
                "or use crysmm predict --files"
            )
        names: list[str] = []
        for file in files:  # the second POSCAR becomes "POSCAR (2)"
            candidates = chain([file.name], (f"{file.name} ({number})" for number in count(2)))
            names.append(next(name for name in candidates if name not in names))
        super().__init__(list(zip(names, files, strict=True)), ReadingOptions())

    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Iterate over the files; those that are too large are :class:`SkippedRow`."""
        for row in super().rows():
            # Checked by the size on disk, before anything is read into memory.
            if isinstance(row, FileRow) and row.path.stat().st_size > MAX_FILE_SIZE:
                size, limit = format_size(row.path.stat().st_size), format_size(MAX_FILE_SIZE)
                yield SkippedRow(row.id, row.file, f"the file has {size}; the app takes files of at most {limit}")
            else:
                yield row


def answer(predictor: Predictor, model: str, files: Sequence[Path]) -> Answers:
    """Predict the structures in files, and collect what else is known about them.

    Args:
        predictor: Loaded model.
        model: Name of the model.
        files: Uploaded files with any content.

    Raises:
        InputError: There are too many files.
    """
    answers = Answers(model, predictor.columns, [], [], {})
    for results, assessment in predictor.assess_source(Uploads(files), undescribed=answers.undescribed):
        answers.rows.extend(predictor.cells(results, assessment))
        row = 0  # row of the assessment, which has none for files that could not be read
        for result in results:
            if isinstance(result, GraphedRecord):
                answers.results.append(_answer(predictor, result, assessment, row))
                row += 1
            else:
                answers.results.append(result)
    return answers


def _answer(predictor: Predictor, graphed: GraphedRecord, assessment: Assessment, row: int) -> Answer:
    """Make the answer for a crystal from its row of an assessment."""
    crystal, classes = graphed.record.crystal, predictor.classes
    names = predictor.target_names if classes is None else [class_label(value) for value in classes]
    arrays = (assessment.predictions, assessment.spread, assessment.lower, assessment.upper)
    columns = [[None] * len(names) if array is None else array[row].tolist() for array in arrays]
    units = predictor.units if classes is None else [None] * len(names)
    values = [Value(*parts) for parts in zip(names, units, *columns, strict=True)]
    percentile, domain, nearest = assessment.distance_percentile, assessment.domain, assessment.nearest
    return Answer(
        graphed.record.id,
        crystal,
        find_space_group(crystal),
        values,
        None if classes is None else max(values, key=lambda value: value.value).name,
        None if percentile is None else float(percentile[row]),
        "" if domain is None else domain[row],
        None if nearest is None else nearest[row],
        graphed.record.notes,
    )


def explain(predictor: Predictor, answer: Answer) -> tuple[str, CrystalExplanation]:
    """Explain a prediction.

    Args:
        predictor: Loaded model.
        answer: Answer for the crystal.

    Returns:
        Name of the explained quantity, and the explanation.

    Raises:
        InputError: Predictions of this model cannot be explained, or the crystal is too large.
        MissingDependencyError: captum is not installed.
    """
    if predictor.n_networks > 1:
        raise InputError(
            "predictions of several networks cannot be explained together; choose one of them with --model"
        )
    return explain_crystal(predictor.model, answer.crystal, answer.id)


class Models:
    """Models by name, loaded on first use.

    Args:
        folders: Model folders, or names of shipped models, which come first. They are loaded at once, so that errors
            are reported at the start; without any, the first shipped model is loaded.

    Attributes:
        names: Names in the order of the menu.

    Raises:
        ModelFolderError: A folder holds no valid model.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        own = [str(folder) for folder in folders]
        # Encoders are shipped, too, but predict nothing.
        shipped = [name for name in shipped_names() if isinstance(read_description(ZOO / name), ModelDescription)]
        groups = [group for group in GROUPS if any(name.startswith(f"{group}-") for name in shipped)]
        self.names = list(dict.fromkeys([*own, *groups, *shipped]))
        self._load = lru_cache(MODELS_IN_MEMORY)(load)  # the least recently used model is dropped
        for name in own or self.names[:1]:
            self._load(name)

    def __getitem__(self, name: str) -> Predictor:
        """Return the model with this name.

        Raises:
            ModelFolderError: The model folder is damaged.
        """
        return self._load(name)
