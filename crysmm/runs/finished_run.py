"""Settings, crystals and split of a finished run, read again for what is computed afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from crysmm.config.training import TrainingConfig
from crysmm.data.split import Split, split_by_file
from crysmm.data.store import Store, build_store
from crysmm.errors import InputError, first_problem
from crysmm.inference.prediction_table import read_predictions
from crysmm.io.inputs import open_input
from crysmm.runs.data import split_sha256
from crysmm.runs.run_folder import RunFolder


def read_run(run: RunFolder, root_dir: Path | None, *, progress: bool = True) -> tuple[TrainingConfig, Store, Split]:
    """Read the settings of a finished run, its crystals, and their split.

    Args:
        run: Run of ``crysmm train``.
        root_dir: Structures of the run, if they have moved.
        progress: Show progress bars.

    Raises:
        InputError: The folder is not that of a run, or the structures are not those of the run.
    """
    config = read_config(run)
    if root_dir is not None:
        config = config.model_copy(update={"root_dir": root_dir})
    if config.root_dir is None:
        raise InputError(f"{run.path} was trained on records in memory; name a file or folder of them with --root_dir")
    if not config.root_dir.exists():
        raise InputError(
            f"the structures of the run, {config.root_dir}, are not there; name where they are with --root_dir"
        )
    source = open_input(config, None)
    store = build_store(
        source, config.graph_settings(), cache_dir=config.cache_dir, jobs=config.jobs, progress=progress
    )
    split = split_by_file(run.ids, store.ids)
    metrics = run.read_metrics() if run.metrics.is_file() else {}
    if metrics.get("split_sha256", found := split_sha256(store, split)) != found:
        raise InputError(
            f"the structures in {config.root_dir} are not those of the run: its ids have other crystals there; give "
            "the data it was trained on as --root_dir"
        )
    path = run.predictions("val")
    # Ids alone do not show that a table has been replaced, so the targets are compared with those that the run wrote;
    # with a threshold, these are classes.
    if config.classification_threshold is None and path.is_file():
        table = read_predictions(path)
        for row in split.val:
            cells, targets = table.rows.get(store.ids[row]), store.targets[row]
            if cells is not None and not np.array_equal(table.truth(store.ids[row]), targets, equal_nan=True):
                raise InputError(
                    f"the data are not those of the run: {store.ids[row]} has the target "
                    f"{', '.join(f'{value:g}' for value in targets)}, in {path} "
                    f"{', '.join(cells[name] for name in table.targets)}"
                )
    return config, store, split


def read_config(run: RunFolder) -> TrainingConfig:
    """Read the settings of a finished run.

    Raises:
        InputError: The folder is not that of a run of ``crysmm train``.
    """
    run.require_training()  # without the ids, the split could differ from the one that the model was trained on
    try:
        return TrainingConfig.model_validate_json(run.config.read_bytes())
    except ValidationError as error:
        raise InputError(f"{run.config} does not hold the settings of crysmm train: {first_problem(error)}") from error
