"""Labels by a network for the crystals of a table that have none, to train a cheaper network on."""

import csv
import subprocess
import sys
from pathlib import Path

from benchmarks.study import is_known, read_rows, write_rows
from crysmm.config import TrainingConfig
from crysmm.data.split import make_split
from crysmm.files import write_json_atomic


def with_predicted_labels(data: Path, name: str, teacher: Path, folder: Path) -> list[str]:
    """Write a table in which a network labels the rows that lack a property.

    Validation and test rows are those of the split of the rows that have it, as :class:`TrainingConfig` makes it; all
    others are trained on.

    Args:
        data: JSONL file of structures with properties.
        name: Name of the property.
        teacher: Folder of the run whose network predicts it; it saw the labels of the training rows alone.
        folder: Folder for the table and what it is made from; predictions that are there are taken.

    Returns:
        Options of ``crysmm train``: data, property and split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(data)
    labeled = [row for row in rows if is_known(row, name)]
    others = [row for row in rows if not is_known(row, name)]
    predictions, unlabeled = folder / f"{name}_predictions.csv", folder / f"{name}_unlabeled.jsonl"
    if not predictions.exists():
        write_rows(unlabeled, others)
        command = ["predict", "--model", str(teacher), "--root_dir", str(unlabeled), "--output", str(predictions)]
        subprocess.run([sys.executable, "-m", "crysmm", *command], check=True)
    with predictions.open(newline="") as file:
        predicted = {row["id"]: float(row["prediction"]) for row in csv.DictReader(file) if row["prediction"]}
    added = [row | {name: predicted[row["id"]]} for row in others if row["id"] in predicted]
    ids = [row["id"] for row in labeled]
    split = make_split(TrainingConfig(), ids, [""] * len(ids)).to_ids(ids)
    split["id_train"] += [row["id"] for row in added]
    table, split_file = folder / f"{name}.jsonl", folder / f"{name}_ids.json"
    write_rows(table, [*labeled, *added])
    write_json_atomic(split_file, split)
    return ["--root_dir", str(table), "--target_key", name, "--ids_file", str(split_file)]
