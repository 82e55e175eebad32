"""Labels that a model predicts for crystals without any: more to train a cheaper model on.

The crystals of a run keep their labels and their split; the others are added to the training split, with what the run's
model predicts for them. So a network that reads a universal potential teaches one that does without
(``docs/results/potentials.md`` reports the gain). It is self-training as of Xie et al., CVPR 2020, without noise.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

from crysmm.config.loading import options
from crysmm.config.training import TrainingConfig
from crysmm.crystals.crystal import Crystal
from crysmm.data.store import Store, build_store
from crysmm.errors import CrysmmError, InputError
from crysmm.files import alone_in, replacing, write_json_atomic
from crysmm.inference.prediction_table import PredictionSummary, places_of_numbers
from crysmm.inference.predictor import Predictor, load
from crysmm.inference.screening import screen
from crysmm.io.inputs import StructureRow, open_source
from crysmm.io.source import SkippedRow, Source
from crysmm.io.table import crystal_row, write_rows
from crysmm.runs.finished_run import read_run
from crysmm.runs.run_folder import RunFolder
from crysmm.training import LABELED_IDS, LABELED_TABLE, LABELS, LABELS_REPORT


@dataclass(frozen=True)
class Labeled:
    """Crystals with labels, in a folder.

    Args:
        folder: Folder with ``table.jsonl.gz``, ``ids_train_val_test.json``, ``predictions.csv`` and ``labels.json``.
        n_known: Number of crystals of the run, which keep their labels.
        n_same: Number of rows left out because the run has exactly the same structure.
        n_other: Number of rows left out because the run has another structure under their id.
        skipped: Rows that cannot be read.
        summary: Numbers of crystals that were predicted and that could not be.
        options: Options of ``crysmm train`` for these data.
    """

    folder: Path
    n_known: int
    n_same: int
    n_other: int
    skipped: Sequence[SkippedRow]
    summary: PredictionSummary
    options: list[str]


class StoredCrystals(Source):
    """Some crystals of a store, without their targets.

    Args:
        store: The store.
        row_numbers: Rows of the crystals.
    """

    target_names = ()

    def __init__(self, store: Store, row_numbers: Sequence[int]):
        self._store, self._row_numbers = store, row_numbers
        self.n_rows = len(row_numbers)

    def rows(self) -> Iterator[StructureRow]:
        """Yield every row."""
        for row, crystal in zip(self._row_numbers, self._store.iter_crystals(self._row_numbers), strict=True):
            yield StructureRow(self._store.ids[row], self._store.files[row], crystal)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the ids and the structures."""
        parts = [(self._store.ids[row], self._store.checksums[row]) for row in self._row_numbers]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def label(
    run: Path | str,
    unlabeled: Source | PathLike[str] | str,
    folder: Path | str,
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
        unlabeled: Crystals to label, or the path of a folder or table with them; those of the run may be among them,
            and are left out.
        folder: Folder to write to.
        root_dir: Structures of the run, if they have moved.
        device: Device to predict on.
        batch_size: Number of structures in a batch; smaller if they are large.
        jobs: Number of processes that read structures; by default one per core.
        progress: Show progress bars.

    Raises:
        InputError: The folder is not that of a run, its structures have changed, it predicts classes, there is nothing
            to label, or the folder to write to is in use or holds labels by another model.
        ModelFolderError: The model cannot be read.
        CrysmmError: No crystal can be labeled.
    """
    run, folder = Path(run), Path(folder)
    predictor = load(run, device)
    _refuse_other_labels(folder, predictor)  # before minutes of reading, and again when no other process writes there
    config, store, split = read_run(RunFolder(run), root_dir, progress=progress)
    if predictor.classes is not None:
        raise InputError(f"{run} predicts classes; labels of values are needed to train on")
    own = sorted([*split.train, *split.val, *split.test])
    source = unlabeled if isinstance(unlabeled, Source) else open_source(unlabeled, needs_targets=False)
    # In the cache, so that they are not read again after a stop.
    others = build_store(source, config.graph_settings(), cache_dir=config.cache_dir, jobs=jobs, progress=progress)
    ids, structures = {store.ids[row] for row in own}, {store.checksums[row] for row in own}
    is_same = [checksum in structures for checksum in others.checksums]
    rows = [row for row, identifier in enumerate(others.ids) if not is_same[row] and identifier not in ids]
    if not rows:
        raise InputError("there is no crystal to label: the run has all of them, or others with their ids")
    names = store.target_names
    factor = config.target_multiplication_factor or 1.0  # the student's settings have it, too
    parts = split.to_ids(store.ids)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        _refuse_other_labels(folder, predictor)
        made_by = {"run": run.resolve().name, "model": predictor.checksum}
        write_json_atomic(folder / LABELS_REPORT, {"n_known": len(own), **made_by, "properties": names})
        to_label = StoredCrystals(others, rows)
        summary = screen(predictor, to_label, folder / LABELS, batch_size=batch_size, jobs=jobs, progress=progress)
        labels = dict(_read_labels(folder / LABELS, names, predictor.model.scaler.lowest))
        if not labels:
            raise CrysmmError(f"no crystal could be labeled; see the column reason of {folder / LABELS}")
        known = zip([store.ids[row] for row in own], store.targets[own].tolist(), store.iter_crystals(own), strict=True)
        new = ((others.ids[row], crystal) for row, crystal in zip(rows, others.iter_crystals(rows), strict=True))
        labeled = ((identifier, labels[identifier], crystal) for identifier, crystal in new if identifier in labels)
        with replacing(folder / LABELED_TABLE) as temporary:
            write_rows((_row(names, factor, *one) for one in chain(known, labeled)), temporary, packed=True)
        write_json_atomic(folder / LABELED_IDS, {**parts, "id_train": [*parts["id_train"], *labels]})
    words = ["--root_dir", str(folder / LABELED_TABLE), "--ids_file", str(folder / LABELED_IDS)]
    words += _options_of_targets(config, names)
    n_other = len(others) - len(rows) - sum(is_same)
    return Labeled(folder, len(own), sum(is_same), n_other, others.skipped, summary, words)


def _refuse_other_labels(folder: Path, predictor: Predictor) -> None:
    """Refuse a folder with labels by another model.

    Raises:
        InputError: The report in the folder has the checksum of other weights.
    """
    path = folder / LABELS_REPORT
    if path.is_file() and (report := json.loads(path.read_bytes())).get("model") != predictor.checksum:
        raise InputError(f"{folder} holds labels by another model, of the run {report['run']}; name another folder")


def _row(
    names: Sequence[str], factor: float, identifier: str, targets: Sequence[float], crystal: Crystal
) -> dict[str, Any]:
    """Return a row of the table, with the targets that are known, before the factor that a run multiplies them by."""
    known = {name: value / factor for name, value in zip(names, targets, strict=True) if not math.isnan(value)}
    return crystal_row(identifier, known, crystal)


def _read_labels(path: Path, names: Sequence[str], lowest: Sequence[float | None]) -> Iterator[tuple[str, list[float]]]:
    """Yield the ids of the crystals that were predicted, with labels of each property, none below its lowest."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    places = places_of_numbers(header, names)
    ends = [-math.inf if end is None else end for end in lowest or [None] * len(names)]
    for cells in lines:
        if all(cells[places[name]] for name in names):
            yield cells[0], [max(float(cells[places[name]]), end) for name, end in zip(names, ends, strict=True)]


def _options_of_targets(config: TrainingConfig, names: Sequence[str]) -> Iterator[str]:
    """Yield the options with which a student reads the labels as the run did."""
    if len(names) > 1 or "," not in names[0]:  # the only number of a row needs no name
        yield from ("--target_key", ",".join(names))
    yield from options(config, ("target_multiplication_factor", "target_transform", "unit", "target_min"))
