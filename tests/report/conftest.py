"""Runs of seconds on real crystals, whose ids and names try to become part of the page."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from ase.io import read

from crysmm.config import TrainingConfig
from crysmm.training.train import train

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
HOSTILE_ID = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1> & \"'"
HOSTILE_TARGET = "K<svg onload=window.hacked=1> & 'VRH'"
SMALL = {"name": "cgcnn", "conv_layers": 1, "node_features": 8, "fc_features": 8}


@pytest.fixture(scope="session")
def rows():
    """The sample crystals as rows of a table, with hostile ids."""
    with (SAMPLE_DATA / "id_prop.csv").open(newline="") as file:
        targets = {row["id"]: float(row["K_VRH"]) for row in csv.DictReader(file)}
    found = []
    for name, target in targets.items():
        atoms = read(SAMPLE_DATA / f"{name}.vasp")
        found.append(
            {
                "id": f"{name} {HOSTILE_ID}",
                "lattice_mat": atoms.cell.tolist(),
                "frac_coords": atoms.get_scaled_positions().tolist(),
                "elements": atoms.get_chemical_symbols(),
                HOSTILE_TARGET: target,
                "volume": float(atoms.get_volume()),
            }
        )
    return found


@pytest.fixture(scope="session")
def train_on(tmp_path_factory, rows):
    """Trains on some of the sample crystals, which lie in a table with a row that cannot be read."""
    root_dir = tmp_path_factory.mktemp("data") / "crystals.jsonl.gz"
    broken = [{**rows[-1], "id": f"broken {HOSTILE_ID}", "elements": ["Xx"]}]
    with gzip.open(root_dir, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in [*broken, *rows])
    cache_dir = tmp_path_factory.mktemp("cache")

    def run(output_dir, records=None, **changes):
        settings = {
            "root_dir": root_dir,
            "output_dir": output_dir,
            "cache_dir": cache_dir,
            "id_key": "id",
            "target_key": HOSTILE_TARGET,
            "n_train": 60,
            "n_val": 15,
            "n_test": 30,
            "epochs": 3,
            "batch_size": 16,
            "model": SMALL,
            "device": "cpu",
            "precision": "32",
            "progress": False,
            "jobs": 1,
        }
        return train(TrainingConfig(**(settings | changes)), records)

    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory, train_on):
    """A run of one target."""
    return train_on(tmp_path_factory.mktemp("runs") / "regression")
