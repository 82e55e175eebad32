"""Labels that a model predicts for crystals without any: more to train a cheaper model on.

The crystals of a run keep their labels and their split; the others are added to the training split, with what the run's
model predicts for them. So a network that reads a universal potential teaches one that does without
(``docs/results/potentials.md`` has what that is worth). It is self-training as of Xie et al., CVPR 2020, without noise.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.config.loading import options
from crysmm.data.store import CRYSTALS_READ, Store
from crysmm.errors import InputError, StructureError
from crysmm.files import replacing, write_json_atomic
from crysmm.inference.prediction_table import PredictionSummary, places_of_numbers
from crysmm.inference.predictor import load
from crysmm.inference.screening import screen
from crysmm.io.source import Row, SkippedRow, Source
from crysmm.io.table import crystal_row, write_rows
from crysmm.runs.finished_run import read_run
from crysmm.runs.run_folder import RunFolder
from crysmm.training import LABELED_IDS, LABELED_TABLE, LABELS, LABELS_REPORT

OF_TARGETS = ("unit", "target_transform")  # settings of the labels that a student needs as well


@dataclass(frozen=True)
class Labeled:
    """Crystals with labels, in a folder.

    Args:
        folder: Folder with ``table.jsonl.gz``, ``ids_train_val_test.json``, ``predictions.csv`` and ``labels.json``.
        n_known: Number of crystals of the run, which keep their labels.
        n_added: Number of crystals with a predicted label; those with a structure of the run are left out.
        summary: Numbers of crystals that were predicted and that could not be.
        options: Options of ``crysmm train`` for these data.
    """

    folder: Path
    n_known: int
    n_added: int
    summary: PredictionSummary
    options: list[str]


class Others(Source):
    """Rows of a source that are not among the crystals of a run.

    Args:
        source: All rows.
        known: Checksums of the run's structures by id.

    Raises:
        InputError: A row has the id of another crystal of the run, or no row is left.
    """

    def __init__(self, source: Source, known: Mapping[str, str]):
        self.target_names = ()
        self._source, self._known = source, known
        self.n_rows = 0
        for row in source.rows():
            if row.id not in known:
                self.n_rows += 1
            elif isinstance(row, Row) and _checksum(row) != known[row.id]:
                raise InputError(
                    f"{row.file}: its id {row.id} is that of another structure in the run; give one of them another id"
                )
        if not self.n_rows:
            raise InputError("there is no crystal to label: the run has all of them")

    def rows(self) -> Iterator[Row | SkippedRow]:
        """Yield every row that is not one of the run's."""
        return (row for row in self._source.rows() if row.id not in self._known)

    def fingerprint(self) -> str:
        """Return a SHA-256 of all rows and of the run's crystals."""
        return hashlib.sha256(f"{self._source.fingerprint()} {self._known!r}".encode()).hexdigest()


def _checksum(row: Row) -> str | None:
    """Return the checksum of a structure, or None if it cannot be read."""
    try:
        return row.read().crystal.checksum
    except StructureError:
        return None


def label(
    run: Path,
    source: Source,
    folder: Path,
    *,
    root_dir: Path | None = None,
    device: str = "auto",
    batch_size: int = 64,
    jobs: int | None = None,
    progress: bool = True,
) -> Labeled:
    """Predict the labels of crystals that a run does not have, and write a table of both with their split.

    Args:
        run: Folder of a run of ``crysmm train`` that predicts values.
        source: Crystals to label; those of the run may be among them, and are left out.
        folder: Folder to write to.
        root_dir: Structures of the run, if they have moved.
        device: Device to predict on.
        batch_size: Number of structures in a batch; smaller if they are large.
        jobs: Number of processes that read structures; by default one per core.
        progress: Show progress bars.

    Raises:
        InputError: The folder is not that of a run, its structures have changed, it predicts classes, or there is
            nothing to label.
        ModelFolderError: The model cannot be read.
    """
    config, store, split = read_run(RunFolder(run), root_dir, progress=progress)
    if config.is_classification:
        raise InputError(f"{run} predicts classes; labels of values are needed to train on")
    rows = sorted([*split.train, *split.val, *split.test])
    known = {store.ids[row]: store.checksums[row] for row in rows}
    others, checksums = Others(source, known), set(known.values())
    folder.mkdir(parents=True, exist_ok=True)
    predictor = load(run, device)
    path, names = folder / LABELS, store.target_names
    write_json_atomic(folder / LABELS_REPORT, {"n_known": len(rows), "run": run.name, "properties": names})
    summary = screen(predictor, others, path, batch_size=batch_size, jobs=jobs, progress=progress)
    labels, added = dict(_read_labels(path, names)), list[str]()

    def labeled_rows() -> Iterator[dict[str, Any]]:
        yield from _known_rows(store, rows)
        for row in others.rows():
            if isinstance(row, Row) and row.id in labels:
                crystal = row.read().crystal
                if crystal.checksum not in checksums:  # the same structure under another id
                    added.append(row.id)
                    yield crystal_row(row.id, labels[row.id], crystal)

    with replacing(folder / LABELED_TABLE) as temporary:
        write_rows(labeled_rows(), temporary, packed=True)
    ids = split.to_ids(store.ids)
    write_json_atomic(folder / LABELED_IDS, {**ids, "id_train": [*ids["id_train"], *added]})
    data = ["--root_dir", str(folder / LABELED_TABLE), "--ids_file", str(folder / LABELED_IDS)]
    # The labels are in the unit of the run, and a factor is part of them.
    words = [*data, "--target_key", ",".join(names), *options(config, OF_TARGETS)]
    return Labeled(folder, len(rows), len(added), summary, words)


def _read_labels(path: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the ids of the crystals that were predicted, with their labels by property."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    places = places_of_numbers(header, names)
    for identifier, *cells in rows:
        values = {name: cells[places[name] - 1] for name in names}
        if all(values.values()):
            yield identifier, {name: float(cell) for name, cell in values.items()}


def _known_rows(store: Store, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the crystals of the run with their own labels."""
    for start in range(0, len(rows), CRYSTALS_READ):
        some = rows[start : start + CRYSTALS_READ]
        for row, crystal in zip(some, store.crystals(some), strict=True):
            known = zip(store.target_names, store.targets[row].tolist(), strict=True)
            yield crystal_row(store.ids[row], {name: value for name, value in known if not math.isnan(value)}, crystal)
