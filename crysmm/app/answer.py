"""What the page says of some files: what ``crysmm predict`` says, and what else is known of each crystal.

Nothing here knows of a browser.
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

import numpy as np

from crysmm.crystal import Crystal
from crysmm.data.building import GraphedRecord
from crysmm.data.estimate import in_bytes
from crysmm.data.scaler import class_label
from crysmm.data.space_groups import find_space_group
from crysmm.errors import InputError
from crysmm.explain.explanation import explain_crystal
from crysmm.explain.tables import CrystalExplanation
from crysmm.inference.assessment import Assessment
from crysmm.inference.domain import Neighbor
from crysmm.inference.intervals import COVERAGE
from crysmm.inference.model_folder import ModelDescription, read_description
from crysmm.inference.predictor import Predictor, load
from crysmm.io.folder import FileRow, FilesSource
from crysmm.io.source import ReadingOptions, SkippedRow
from crysmm.version import __version__
from crysmm.zoo import ZOO, shipped_names

LARGEST_FILE = 20 << 20  # bytes
MOST_FILES = 200  # at once


@dataclass(frozen=True)
class Value:
    """One number that a model gives out for a crystal.

    Args:
        name: of the target, or the class it is the probability of.
        value: in the original unit, or the probability.
        spread: of an ensemble: the standard deviation of its members.
        lower: end of the interval; -inf where too few crystals validate. None where there is no interval.
        upper: the other end.
    """

    name: str
    value: float
    spread: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Answer:
    """What is known of one crystal.

    Args:
        id: the name of its file.
        crystal: the structure.
        space_group: 1 to 230, or 0 where it was not found.
        values: one a target, or one a class.
        predicted_class: the most probable class; None where values are predicted.
        distance_percentile: percentage of the validation crystals that are nearer to the training crystals.
        domain: in what way it is unlike the training crystals; empty where it is not.
        nearest: training crystals; None for a model without calibration.
        notes: on how the file was read.
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
        """For the JSON file; numbers that are not finite are left out, as JSON has none."""
        lengths, angles = cell_parameters(self.crystal)
        return {
            "id": self.id,
            "formula": self.crystal.formula,
            "n_atoms": len(self.crystal),
            "space_group": self.space_group or None,
            "cell_lengths_angstrom": lengths.tolist(),
            "cell_angles_degrees": angles.tolist(),
            "volume_cubic_angstrom": self.crystal.volume,
            "predicted_class": self.predicted_class,
            "values": [{name: _finite(value) for name, value in asdict(value).items()} for value in self.values],
            "distance_percentile": self.distance_percentile,
            "domain": self.domain,
            "notes": list(self.notes),
            "nearest": None
            if self.nearest is None
            else [{**near.crystal._asdict(), "distance": near.distance} for near in self.nearest],
        }


@dataclass(frozen=True)
class Answers:
    """What is known of some files.

    Args:
        model: what the model is called.
        columns: of the table of ``crysmm predict``.
        rows: of that table, one a file.
        results: one a file, in the same order: an answer, or why there is none.
        undescribed: why there was no text, by id, for a model that reads texts.
    """

    model: str
    columns: list[str]
    rows: list[list[str]]
    results: list[Answer | SkippedRow]
    undescribed: dict[str, str]

    @property
    def found(self) -> list[Answer]:
        """The answers there are."""
        return [result for result in self.results if isinstance(result, Answer)]

    @property
    def failed(self) -> list[SkippedRow]:
        """The files without one, each with the reason."""
        return [result for result in self.results if isinstance(result, SkippedRow)]

    def table(self) -> str:
        """The table of ``crysmm predict``, as CSV."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def json(self, explanation: CrystalExplanation | None = None) -> str:
        """Everything, as JSON.

        Args:
            explanation: of the only crystal.
        """
        content = {
            "crysmm": __version__,
            "model": self.model,
            "coverage": COVERAGE,
            "crystals": [answer.to_dict() for answer in self.found],
            "failed": [{"id": row.id, "reason": row.reason} for row in self.failed],
            "explanation": None if explanation is None else explanation.to_dict(),
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


class Uploads(FilesSource):
    """Files that somebody has sent, each called by its name; those that are too large are not read.

    Args:
        files: their paths.

    Raises:
        InputError: there are too many.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        if len(files) > MOST_FILES:
            raise InputError(
                f"{len(files)} files are too many for the page, which takes {MOST_FILES} at once; give fewer, or use "
                "crysmm predict --files"
            )
        super().__init__(list(zip(_distinct([file.name for file in files]), files, strict=True)), ReadingOptions())

    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Every file; one that is too large is a :class:`SkippedRow`."""
        for row in super().rows():
            if isinstance(row, FileRow) and row.path.stat().st_size > LARGEST_FILE:
                size, most = in_bytes(row.path.stat().st_size), in_bytes(LARGEST_FILE)
                yield SkippedRow(row.id, row.file, f"the file has {size}; the page takes files of at most {most}")
            else:
                yield row


def answer(predictor: Predictor, model: str, files: Sequence[Path]) -> Answers:
    """Predict the structures in files, and say what else is known of them.

    Args:
        predictor: of the model.
        model: what it is called.
        files: structure files, whatever is in them.

    Raises:
        InputError: there are too many files.
    """
    answers = Answers(model, predictor.columns, [], [], {})
    for results, assessment in predictor.assess_source(Uploads(files), undescribed=answers.undescribed):
        answers.rows.extend(predictor.cells(results, assessment))
        places = count()
        answers.results.extend(
            _answer(predictor, result, assessment, next(places)) if isinstance(result, GraphedRecord) else result
            for result in results
        )
    return answers


def explain(predictor: Predictor, answer: Answer) -> tuple[str, CrystalExplanation]:
    """What is explained of a prediction, and what it rests on.

    Args:
        predictor: of the model.
        answer: about the crystal.

    Raises:
        InputError: the model's predictions cannot be explained, or the crystal is too large.
        MissingDependencyError: captum is not installed.
    """
    if predictor.n_members > 1:
        raise InputError("a prediction of an ensemble is not explained; choose one of its members with --model")
    return explain_crystal(predictor.model, answer.crystal, answer.id)


def cell_parameters(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Lengths a, b and c (Angstrom) and angles alpha, beta and gamma (degrees) of a cell."""
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    directions = crystal.lattice / lengths[:, None]
    cosines = [directions[i] @ directions[j] for i, j in ((1, 2), (2, 0), (0, 1))]
    return lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def _answer(predictor: Predictor, graphed: GraphedRecord, assessment: Assessment, row: int) -> Answer:
    crystal = graphed.record.crystal
    classes = predictor.classes
    names = predictor.target_names if classes is None else [class_label(value) for value in classes]
    kinds = (assessment.predictions, assessment.spread, assessment.lower, assessment.upper)
    columns = [[None] * len(names) if numbers is None else numbers[row].tolist() for numbers in kinds]
    values = [Value(name, *numbers) for name, *numbers in zip(names, *columns, strict=True)]
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


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of files, the later ones of equals numbered: ``POSCAR``, ``POSCAR (2)``."""
    taken: list[str] = []
    for name in names:
        candidates = chain([name], (f"{name} ({number})" for number in count(2)))
        taken.append(next(candidate for candidate in candidates if candidate not in taken))
    return taken


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


KEPT = 4  # models in memory


class Models:
    """Models by name, loaded when they are first asked for.

    Args:
        folders: of models, or names of shipped ones, as the user gives them; they come first. They are loaded at once,
            so that a damaged one is told at the start; where there are none, the first shipped one is.

    Attributes:
        names: in the order in which they are offered.

    Raises:
        ModelFolderError: a folder holds no model, or no sound one.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        own = [str(folder) for folder in folders]
        shipped = [name for name in shipped_names() if isinstance(read_description(ZOO / name), ModelDescription)]
        self.names = list(dict.fromkeys([*own, *shipped]))
        self._load = lru_cache(KEPT)(load)
        for name in own or self.names[:1]:
            self._load(name)

    def __getitem__(self, name: str) -> Predictor:
        """The model of a name.

        Raises:
            ModelFolderError: it is damaged.
        """
        return self._load(name)
