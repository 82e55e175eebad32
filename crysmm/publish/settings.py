"""The settings of a training whose data and split a benchmark says."""

from __future__ import annotations

from pathlib import Path

from crysmm.config.loading import SIZES, make_config
from crysmm.config.run import DEFAULT_RATIO
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError

SPLIT = (SIZES - {"val_ratio"}) | {"ids_file", "keep_data_order", "limit", "strict"}
VALUES = frozenset({"target_key", "target_multiplication_factor", "classification_threshold"})


def left_aside(config: TrainingConfig, settings: frozenset[str]) -> list[str]:
    """A line that names settings of a file that a benchmark says itself."""
    named = sorted(config.model_fields_set & settings) + ["model.classification"] * config.model.classification
    return [f"the benchmark says it itself, left aside: {', '.join(named)}"] if named else []


def validation_share(config: TrainingConfig) -> float:
    """Which share of the training crystals is taken for validation.

    Raises:
        InputError: it leaves no crystals to validate on, or none to learn from.
    """
    share = DEFAULT_RATIO if config.val_ratio is None else config.val_ratio
    if not 0 < share < 1:
        raise InputError(
            f"--val_ratio: got {share:g}; the epoch is chosen by a share of the training crystals, as there are no "
            "others to validate on: give a number between 0 and 1"
        )
    return share


def settings_on(
    config: TrainingConfig,
    data: Path,
    target: str,
    ids_file: Path,
    output_dir: Path,
    *,
    is_classification: bool,
) -> TrainingConfig:
    """The settings of one training.

    Args:
        config: what the user has set.
        data: rows of crystals.
        target: name of what is learned in them.
        ids_file: the split.
        output_dir: of the run.
        is_classification: whether the values are classes.
    """
    kept = config.model_dump(exclude={*SPLIT, *VALUES, "val_ratio", "id_key", "file_format"})
    kept["model"]["classification"] = is_classification
    return make_config(
        TrainingConfig,
        {
            **kept,
            "root_dir": data,
            "ids_file": ids_file,
            "output_dir": output_dir,
            "target_key": target,
            "id_key": "id",
        },
    )
