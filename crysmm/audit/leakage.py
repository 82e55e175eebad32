"""A leakage audit: what validation and test splits share with the training split, and what that does to the error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from crysmm.config.graph import GraphSettings
from crysmm.config.training import TrainingConfig
from crysmm.data.duplicates import NEAR, TOLERANCE, Counterpart, find_counterparts
from crysmm.data.split import Split, split_by_file
from crysmm.data.store import Store, build_store
from crysmm.errors import InputError
from crysmm.files import write_csv_atomic, write_json_atomic
from crysmm.inference.prediction_table import read_predictions
from crysmm.io.inputs import open_input
from crysmm.io.source import Source
from crysmm.runs.run_folder import AUDIT_REPORT, AUDIT_TABLE, RunFolder

TITLES = {"val": "validation", "test": "test"}
SUBSETS = {
    "all": (),
    "without identical structures": ("identical",),
    "without near-identical ones": ("identical", "near-identical"),
    "without shared formulas": ("identical", "near-identical", "same formula"),
}
"""What is left of a split, and the kinds of counterparts that are left out."""
TARGETS_SHOWN = 4


@dataclass(frozen=True)
class Errors:
    """How far off each prediction of a split is.

    Args:
        measures: what the mean of each column is: the MAE of a target, or the accuracy.
        by_id: ``[n_measures]`` by id: absolute errors in original units, or whether the class was right.
    """

    measures: list[str]
    by_id: dict[str, np.ndarray]

    def means(self, ids: Sequence[str]) -> dict[str, float | None]:
        """The means over some crystals; None where there are none."""
        means = np.mean([self.by_id[name] for name in ids], axis=0) if ids else [None] * len(self.measures)
        return {
            measure: None if mean is None else float(mean) for measure, mean in zip(self.measures, means, strict=True)
        }


@dataclass(frozen=True)
class SplitAudit:
    """What one split shares with the training split.

    Args:
        split: ``val`` or ``test``.
        counterparts: of each of its crystals.
        subsets: by name (see ``SUBSETS``), ``n`` crystals and the means of the errors, where these are known.
    """

    split: str
    counterparts: list[Counterpart]
    subsets: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Audit:
    """What was found.

    Args:
        store: the crystals.
        n_training: crystals learned from.
        splits: validation and test, those that are not empty.
    """

    store: Store
    n_training: int
    splits: list[SplitAudit]

    def write(self, folder: Path) -> None:
        """Write ``audit.json`` and ``audit.csv`` into a folder."""
        content = {
            "n_training": self.n_training,
            "tolerance_angstrom": {"identical": TOLERANCE, "near-identical": NEAR},
            **{audit.split: audit.subsets for audit in self.splits},
        }
        header = (
            "id", "split", "formula", "counterpart", "nearest_training_id", "difference_angstrom", "n_same_formula"
        )  # fmt: skip
        rows = [self._cells(audit.split, counterpart) for audit in self.splits for counterpart in audit.counterparts]
        write_csv_atomic(folder / AUDIT_TABLE, header, rows)
        write_json_atomic(folder / AUDIT_REPORT, content)

    def lines(self) -> Iterator[str]:
        """A short table for each split."""
        for audit in self.splits:
            measures = [name for name in audit.subsets["all"] if name != "n"]
            shown = measures[:TARGETS_SHOWN]
            title = f"{TITLES[audit.split]} split against {self.n_training:,} training crystals"
            yield f"{title:48}{'crystals':>10}" + "".join(f"{name:>12}" for name in shown)
            for name, subset in audit.subsets.items():
                yield f"  {name:46}{subset['n']:>10,}" + "".join(f"{_number(subset[key]):>12}" for key in shown)

    def _cells(self, split: str, found: Counterpart) -> list[Any]:
        ids, formulas = self.store.ids, self.store.formulas
        nearest, difference = ("", "") if found.nearest is None else (ids[found.nearest], found.difference)
        return [ids[found.row], split, formulas[found.row], found.kind, nearest, difference, found.n_same_formula]


def audit_run(folder: Path, root_dir: Path | None = None, *, progress: bool = True) -> Audit:
    """Audit the split of a run, with the errors of its predictions.

    Args:
        folder: of a run of ``crysmm train``.
        root_dir: the structures it has learned from, if they are not where they were.
        progress: show bars.

    Raises:
        InputError: the folder is not one of a run, or the structures are not those it has learned from.
    """
    run = RunFolder(folder)
    _, store, split = read_run(run, root_dir, progress=progress)
    ids = {"val": [store.ids[row] for row in split.val], "test": [store.ids[row] for row in split.test]}
    errors = {name: _read_errors(path, ids[name]) for name in TITLES if (path := run.predictions(name)).is_file()}
    return audit(store, split, errors, progress=progress)


def audit_ids(source: Source, ids_file: Path, *, progress: bool = True) -> Audit:
    """Audit any split.

    Args:
        source: the structures.
        ids_file: an ``ids_train_val_test.json``.
        progress: show bars.

    Raises:
        InputError: nothing can be read, or the ids do not fit.
    """
    store = build_store(source, GraphSettings(), progress=progress)
    return audit(store, split_by_file(ids_file, store.ids), {}, progress=progress)


def audit(store: Store, split: Split, errors: dict[str, Errors], *, progress: bool = True) -> Audit:
    """Audit a split of a store.

    Args:
        store: the crystals.
        split: rows of it.
        errors: by split, where they are known.
        progress: show a bar.
    """
    audits = []
    for name, rows in (("val", split.val), ("test", split.test)):
        if rows:
            counterparts = find_counterparts(store, split.train, rows, progress=progress)
            audits.append(SplitAudit(name, counterparts, _subsets(store, counterparts, errors.get(name))))
    return Audit(store, len(split.train), audits)


def read_run(run: RunFolder, root_dir: Path | None, *, progress: bool = True) -> tuple[TrainingConfig, Store, Split]:
    """The settings of a run, its crystals, and their split.

    Args:
        run: of ``crysmm train``.
        root_dir: the structures it has learned from, if they are not where they were.
        progress: show bars.

    Raises:
        InputError: the folder is not one of a run, or the structures are not those it has learned from.
    """
    config = read_config(run)
    if root_dir is not None:
        config = config.model_copy(update={"root_dir": root_dir})
    if config.root_dir is None:
        raise InputError(
            f"{run.path} has learned from records in memory; name a file or folder of them with --root_dir"
        )
    source = open_input(config, None)
    store = build_store(
        source, config.graph_settings(), cache_dir=config.cache_dir, jobs=config.jobs, progress=progress
    )
    split = split_by_file(run.ids, store.ids)
    if config.classification_threshold is None:  # else the table holds classes
        _refuse_other_targets(run.predictions("val"), store, split.val)
    return config, store, split


def _refuse_other_targets(path: Path, store: Store, rows: Sequence[int]) -> None:
    """Refuse data whose targets are not those of a table of predictions, if there is one."""
    if not path.is_file():
        return
    table = read_predictions(path)
    for row in rows:
        cells = table.rows.get(store.ids[row])
        if cells is not None and [float(cells[name]) for name in table.targets] != store.targets[row].tolist():
            raise InputError(
                f"the data are not those that the run has learned from: {store.ids[row]} has the target "
                f"{', '.join(f'{value:g}' for value in store.targets[row])}, in {path} "
                f"{', '.join(cells[name] for name in table.targets)}"
            )


def read_config(run: RunFolder) -> TrainingConfig:
    """The settings of a run.

    Raises:
        InputError: the folder is not one of a run of ``crysmm train``.
    """
    for file in (run.config, run.ids):
        if not file.is_file():
            raise InputError(f"{run.path} is not the folder of a run of crysmm train: {file.name} is missing")
    try:
        return TrainingConfig.model_validate_json(run.config.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise InputError(f"{run.config} does not hold the settings of crysmm train: {problem}") from error


def _subsets(store: Store, counterparts: list[Counterpart], errors: Errors | None) -> dict[str, dict[str, Any]]:
    subsets = {}
    for name, left_out in SUBSETS.items():
        ids = [store.ids[found.row] for found in counterparts if found.kind not in left_out]
        subsets[name] = {"n": len(ids), **({} if errors is None else errors.means(ids))}
    return subsets


def _read_errors(path: Path, ids: Sequence[str]) -> Errors:
    """What a table of predictions says of each crystal of a split.

    Raises:
        InputError: it is not one, or lacks crystals.
    """
    table = read_predictions(path)
    missing = [name for name in ids if name not in table.rows]
    if missing:
        raise InputError(
            f"{path} is damaged: it lacks {len(missing):,} crystals of its split, {missing[0]} the first; train the "
            "run again, or restore the file"
        )
    truth, found = (
        {name: np.array([float(row[column]) for column in columns]) for name, row in table.rows.items()}
        for columns in (table.targets, table.predictions)
    )
    if any(name.startswith("probability_") for name in table.columns):
        return Errors(["accuracy"], {name: (truth[name] == found[name]) * 1.0 for name in truth})
    measures = ["MAE"] if len(table.targets) == 1 else [name.replace("target", "MAE", 1) for name in table.targets]
    return Errors(measures, {name: np.abs(truth[name] - found[name]) for name in truth})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
