"""A finished run, and the structures and the split it has learned from, read again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from crysmm.config.training import TrainingConfig
from crysmm.data.split import Split, split_by_file
from crysmm.data.store import Store, build_store
from crysmm.errors import InputError
from crysmm.inference.table import read_predictions
from crysmm.io.inputs import open_input
from crysmm.runs.folder import RunFolder


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
