"""Leakage audit: crystals that validation and test share with the training split, and errors without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.data.duplicates import NEAR, TOLERANCE, Counterpart, find_counterparts
from crysmm.data.split import Split, split_by_file
from crysmm.data.store import Store, build_store
from crysmm.errors import InputError
from crysmm.files import write_csv_atomic, write_json_atomic
from crysmm.inference.prediction_table import read_predictions
from crysmm.io.source import Source
from crysmm.runs.finished_run import read_run
from crysmm.runs.run_folder import AUDIT_REPORT, AUDIT_TABLE, TITLES, RunFolder
from crysmm.runs.summary import TARGETS_SHOWN

SUBSETS = {
    "all": (),
    "without identical structures": ("identical",),
    "without near-identical ones": ("identical", "near-identical"),
    "without shared formulas": ("identical", "near-identical", "same formula"),
}
"""Subsets of a split, and the kinds of counterparts that are left out of each."""


@dataclass(frozen=True)
class Errors:
    """Error of each prediction of a split.

    Args:
        metrics: Names of the metrics that the means of the columns are: MAE for each target, or accuracy.
        by_id: Absolute errors in original units, NaN where the target is missing, or 1 for a correct class and 0 for a
            wrong one, by id; ``[n_metrics]``.
    """

    metrics: list[str]
    by_id: dict[str, np.ndarray]

    def means(self, ids: Sequence[str]) -> dict[str, float | None]:
        """Return the metrics over the crystals that have the target, among some; None if there are none."""
        errors = np.array([self.by_id[name] for name in ids]).reshape(len(ids), len(self.metrics))
        present = ~np.isnan(errors)
        return {
            metric: float(errors[present[:, column], column].mean()) if present[:, column].any() else None
            for column, metric in enumerate(self.metrics)
        }


@dataclass(frozen=True)
class SplitAudit:
    """Comparison of one split with the training split.

    Args:
        split: ``val`` or ``test``.
        counterparts: Nearest training crystal of each crystal in the split.
        subsets: For each of ``SUBSETS``, the number of crystals ``n`` and the metrics, where these are known.
    """

    split: str
    counterparts: list[Counterpart]
    subsets: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Audit:
    """Result of a leakage audit.

    Args:
        store: Crystals of all splits.
        n_training: Number of training crystals.
        splits: Audits of the validation and test splits that are not empty.
    """

    store: Store
    n_training: int
    splits: list[SplitAudit]

    def write(self, folder: Path) -> None:
        """Write ``audit.json`` and ``audit.csv`` into a folder."""
        header = (
            "id", "split", "formula", "counterpart", "nearest_training_id", "difference_angstrom", "n_same_formula"
        )  # fmt: skip
        ids, formulas, rows = self.store.ids, self.store.formulas, []
        for audit in self.splits:
            for found in audit.counterparts:
                nearest, difference = ("", "") if found.nearest is None else (ids[found.nearest], found.difference)
                row, split = found.row, audit.split
                rows.append([ids[row], split, formulas[row], found.kind, nearest, difference, found.n_same_formula])
        content = {
            "n_training": self.n_training,
            "tolerance_angstrom": {"identical": TOLERANCE, "near-identical": NEAR},
            **{audit.split: audit.subsets for audit in self.splits},
        }
        write_json_atomic(folder / AUDIT_REPORT, content)  # first, by which a folder is known
        write_csv_atomic(folder / AUDIT_TABLE, header, rows)

    def lines(self) -> Iterator[str]:
        """Yield the lines of a short table for each split."""
        for audit in self.splits:
            metrics = [name for name in audit.subsets["all"] if name != "n"][:TARGETS_SHOWN]
            title = f"{TITLES[audit.split]} split against {self.n_training:,} training crystals"
            yield f"{title:48}{'crystals':>10}" + "".join(f"{name:>12}" for name in metrics)
            for name, subset in audit.subsets.items():
                numbers = ["-" if subset[key] is None else f"{subset[key]:.4g}" for key in metrics]
                yield f"  {name:46}{subset['n']:>10,}" + "".join(f"{number:>12}" for number in numbers)


def audit_run(folder: Path, root_dir: Path | None = None, *, progress: bool = True) -> Audit:
    """Audit the split of a run, with the errors of its predictions.

    Args:
        folder: Folder of a run of ``crysmm train``.
        root_dir: Structures of the run, if they have moved.
        progress: Show progress bars.

    Raises:
        InputError: The folder is not that of a run, or the structures are not those of the run.
    """
    run = RunFolder(folder)
    _, store, split = read_run(run, root_dir, progress=progress)
    ids = {"val": [store.ids[row] for row in split.val], "test": [store.ids[row] for row in split.test]}
    errors = {name: _read_errors(path, ids[name]) for name in ids if (path := run.predictions(name)).is_file()}
    return audit(store, split, errors, progress=progress)


def audit_ids(source: Source, ids_file: Path, *, progress: bool = True) -> Audit:
    """Audit a split that a file of ids defines.

    Args:
        source: Structures.
        ids_file: An ``ids_train_val_test.json``.
        progress: Show progress bars.

    Raises:
        InputError: No structure can be read, or the ids do not match the structures.
    """
    store = build_store(source, GraphSettings(), progress=progress)
    return audit(store, split_by_file(ids_file, store.ids), {}, progress=progress)


def audit(store: Store, split: Split, errors: dict[str, Errors], *, progress: bool = True) -> Audit:
    """Audit a split of a store.

    Args:
        store: Crystals of all splits.
        split: Rows of the store in each split.
        errors: Errors of predictions by split, where they are known.
        progress: Show a progress bar.
    """
    audits = []
    for name, rows in (("val", split.val), ("test", split.test)):
        if not rows:
            continue
        counterparts = find_counterparts(store, split.train, rows, progress=progress)
        subsets = {}
        for subset, left_out in SUBSETS.items():
            ids = [store.ids[found.row] for found in counterparts if found.kind not in left_out]
            subsets[subset] = {"n": len(ids), **(errors[name].means(ids) if name in errors else {})}
        audits.append(SplitAudit(name, counterparts, subsets))
    return Audit(store, len(split.train), audits)


def _read_errors(path: Path, ids: Sequence[str]) -> Errors:
    """Return the errors of the predictions in a table.

    Args:
        path: Table of predictions of a split.
        ids: Ids of the crystals in this split.

    Raises:
        InputError: The file is not such a table, or crystals are missing.
    """
    table = read_predictions(path)
    missing = [name for name in ids if name not in table.rows]
    if missing:
        raise InputError(
            f"{path} is damaged: {len(missing):,} crystals of its split are missing, {missing[0]} the first; train the "
            "run again, or restore the file"
        )
    truth = {name: table.truth(name) for name in table.rows}
    found = {name: np.array([float(row[column]) for column in table.predictions]) for name, row in table.rows.items()}
    if table.classes:
        return Errors(["accuracy"], {name: (truth[name] == found[name]) * 1.0 for name in truth})
    metrics = ["MAE"] if len(table.targets) == 1 else [name.replace("target", "MAE", 1) for name in table.targets]
    return Errors(metrics, {name: np.abs(truth[name] - found[name]) for name in truth})
