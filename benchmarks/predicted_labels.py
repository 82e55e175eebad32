"""Labels by a network for the crystals of a table whose labels are not used, to train a cheaper network on."""

import csv
import subprocess
import sys
from pathlib import Path

from benchmarks.study import is_known, read_rows, replace_rows
from crysmm.config import TrainingConfig
from crysmm.data.split import make_split
from crysmm.files import write_json_atomic

FULL = 80  # percent of the crystals with a property, the training split


def with_predicted_labels(data: Path, name: str, percent: int, teacher: Path, folder: Path) -> list[str]:
    """Write a table in which a network labels more rows to train on.

    The labeled rows and those for validation and test are the ones of the split that :class:`TrainingConfig` makes of
    the rows that have the property. With predicted labels come the rest of a full training split, whose own labels are
    hidden, or, where all of it is labeled, the rows that lack the property.

    Args:
        data: JSONL file of structures with properties.
        name: Name of the property.
        percent: Part of the rows with the property that is labeled.
        teacher: Folder of the run whose network predicts it; it saw the labels of these rows alone.
        folder: Folder for the table and what it is made from; predictions that are there are taken.

    Returns:
        Options of ``crysmm train``: data, property and split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(data)
    ids = [row["id"] for row in rows if is_known(row, name)]
    full, split = (
        make_split(TrainingConfig(train_ratio=part / 100), ids, [""] * len(ids)).to_ids(ids) for part in (FULL, percent)
    )
    kept = {one for part in split.values() for one in part}
    hidden = set(full["id_train"]) - kept
    others = [row for row in rows if (row["id"] in hidden if hidden else not is_known(row, name))]
    predictions, unlabeled = folder / "predictions.csv", folder / "unlabeled.jsonl"
    if not predictions.exists():
        replace_rows(unlabeled, others)
        command = ["predict", "--model", str(teacher), "--root_dir", str(unlabeled), "--output", str(predictions)]
        subprocess.run([sys.executable, "-m", "crysmm", *command], check=True)
    with predictions.open(newline="") as file:
        predicted = {row["id"]: float(row["prediction"]) for row in csv.DictReader(file) if row["prediction"]}
    added = [row | {name: predicted[row["id"]]} for row in others if row["id"] in predicted]
    split["id_train"] += [row["id"] for row in added]
    table, split_file = folder / "table.jsonl", folder / "ids.json"
    replace_rows(table, [*(row for row in rows if row["id"] in kept), *added])
    write_json_atomic(split_file, split)
    return ["--root_dir", str(table), "--target_key", name, "--ids_file", str(split_file)]
