"""Labels by a network for the crystals of a table whose labels are not used, to train a cheaper network on."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.study import is_known, read_rows, replace_rows
from crysmm.config import TrainingConfig
from crysmm.data.split import make_split
from crysmm.training import LABELED_IDS, LABELED_TABLE

FULL = 80  # percent of the crystals with a property, the training split


def official_split(rows: Sequence[dict[str, Any]], name: str, percent: float = FULL) -> dict[str, list[str]]:
    """Split the ids of the rows with a property as JARVIS-Leaderboard does, with so many percent to train on."""
    ids = [row["id"] for row in rows if is_known(row, name)]
    return make_split(TrainingConfig(train_ratio=percent / 100), ids, [""] * len(ids)).to_ids(ids)


def with_predicted_labels(data: Path, name: str, percent: float, teacher: Path, folder: Path) -> list[str]:
    """Write a table in which a network labels more rows to train on, by ``crysmm label``.

    Its own rows are those of the network's run. Added are the rest of a full training split, whose labels are hidden,
    or, where all of it is labeled, the rows that lack the property.

    Args:
        data: JSONL file of structures with properties.
        name: Name of the property.
        percent: Part of the rows with the property that is labeled.
        teacher: Folder of the run whose network predicts it.
        folder: Folder for the table and what it is made from; what is there is taken.

    Returns:
        Options of ``crysmm train``: data, property and split.
    """
    rows = read_rows(data)
    hidden = set(official_split(rows, name)["id_train"]) - set(official_split(rows, name, percent)["id_train"])
    table, ids_file = folder / LABELED_TABLE, folder / LABELED_IDS
    if not ids_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unlabeled = folder / "unlabeled.jsonl"
        replace_rows(unlabeled, [row for row in rows if (row["id"] in hidden if hidden else not is_known(row, name))])
        command = ["label", "--model", str(teacher), "--unlabeled", str(unlabeled), "--output_dir", str(folder)]
        subprocess.run([sys.executable, "-m", "crysmm", *command], check=True)
    return ["--root_dir", str(table), "--target_key", name, "--ids_file", str(ids_file)]
