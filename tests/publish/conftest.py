"""A small data set, benchmarks and folds of it, in the forms that the leaderboards distribute."""

import csv
import json
import random
import zipfile
from pathlib import Path

import pytest

from crysmm.io.inputs import open_source

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
SMALL = ["--model.conv_layers", "1", "--model.node_features", "8", "--model.fc_features", "8", "--epochs", "1"]
SMALL += ["--device", "cpu", "--precision", "32", "--progress", "false", "--jobs", "1"]


@pytest.fixture(scope="session")
def records():
    """Thirty crystals with their bulk moduli (GPa), in an order of no meaning."""
    found = [row.read() for row in open_source(SAMPLE_DATA, limit=30).rows()]
    random.Random(3).shuffle(found)
    return found


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Options of a training of a second."""
    return [*SMALL, "--cache_dir", str(tmp_path_factory.mktemp("cache"))]


def write_zip(path: Path, content) -> Path:
    """A ``NAME.json.zip`` as JARVIS writes it: one member, ``NAME.json``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.name.removesuffix(".zip"), json.dumps(content))
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def data(records, tmp_path_factory) -> Path:
    """A data set as JARVIS distributes it; the values in it are not those of any benchmark."""
    rows = [
        {
            "jid": record.id,
            "atoms": {
                "lattice_mat": record.crystal.lattice.tolist(),
                "coords": record.crystal.frac_coords.tolist(),
                "elements": record.crystal.elements,
                "cartesian": False,
            },
            "bulk_modulus_kv": "na",
            "ehull": 0.5,
        }
        for record in records
    ]
    return write_zip(tmp_path_factory.mktemp("data") / "dft_3d.json.zip", rows)
