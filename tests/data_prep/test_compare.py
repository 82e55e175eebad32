"""An archive of JARVIS and a file of the same crystals, rounded and with other names where these were not known."""

import json
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from jarvis.core.lattice import Lattice

from crysmm.io.inputs import open_source
from data_prep.compare import compare, read_rows
from data_prep.files import write_jsonl

SAMPLE = Path(__file__).parents[2] / "examples" / "sample_data"
N_ROWS = 36


@pytest.fixture(scope="module")
def archive_rows():
    """Rows as in ``dft_3d``: numbers, ``na`` for missing ones, and atoms with Cartesian or fractional coordinates."""
    rows = []
    for number, row in enumerate(open_source(SAMPLE, limit=N_ROWS).rows()):
        record = row.read()
        coords = record.crystal.frac_coords @ record.crystal.lattice if number % 2 else record.crystal.frac_coords
        lattice = Lattice(record.crystal.lattice)
        atoms = {
            "lattice_mat": record.crystal.lattice.tolist(),
            "coords": coords.tolist(),
            "elements": record.crystal.elements,
            "abc": np.round(lattice.abc, 2).tolist(),
            "angles": np.round(lattice.angles, 2).tolist(),
            "cartesian": bool(number % 2),
            "props": [""] * len(record.crystal),
        }
        rows.append(
            {
                "jid": f"JVASP-{97 * number}",
                "spg_number": "225",
                "atoms": atoms,
                "formation_energy_peratom": -number / 7,
                "mbj_bandgap": number / 3 if number % 4 == 0 else "na",
                "bulk_modulus_kv": record.targets[0],
                "slme": "na" if number % 5 else 1e-3 * number,
                "spillage": float("nan"),
                "icsd": [],
            }
        )
    return rows


def rounded(rows):
    """The rows as a file of another origin has them: 1e-5, whole cells away, and two whose ids are not known."""
    made = []
    for number, row in enumerate(rows):
        atoms = row["atoms"]
        coords = np.array(atoms["coords"])
        fractions = np.linalg.solve(np.transpose(atoms["lattice_mat"]), coords.T).T if atoms["cartesian"] else coords
        names = ("formation_energy_peratom", "mbj_bandgap", "bulk_modulus_kv", "slme")
        made.append(
            {
                "id": f"row-{number}" if number in (5, 20) else row["jid"],
                "row": number,
                **{name: round(row[name], 5) for name in names if row[name] != "na"},
                "lattice_mat": np.round(atoms["lattice_mat"], 5).tolist(),
                "elements": list(atoms["elements"]),
                "frac_coords": np.round(fractions - (number % 3 == 0), 5).tolist(),
            }
        )
    return made


@pytest.fixture
def files(archive_rows, tmp_path):
    """Writes an archive and a file; gives their paths."""

    def files(change=lambda rows, other: None):
        rows = deepcopy(archive_rows)
        other = rounded(rows)
        change(rows, other)
        with zipfile.ZipFile(tmp_path / "dft_3d.json.zip", "w") as packed:
            packed.writestr("dft_3d.json", json.dumps(rows))
        write_jsonl(other, tmp_path / "rows.jsonl.gz")
        return tmp_path / "dft_3d.json.zip", tmp_path / "rows.jsonl.gz"

    return files


def test_the_command_finds_the_same_rows(run_module, files):
    result = run_module("compare", *files())
    assert (result.returncode, result.stdout.splitlines()) == (
        0,
        [
            "rows: 36 and 36; 34 ids are in both",
            "  2 ids are in the first file only: JVASP-485, JVASP-1940",
            "  2 ids are in the second file only: row-5, row-20",
            "  2 of these stand at the same place in both, and are compared",
            "structures: 36 of 36 are the same",
            "bulk_modulus_kv: 36 rows have it in both, 36 with the same value",
            "formation_energy_peratom: 36 rows have it in both, 36 with the same value",
            "mbj_bandgap: 9 rows have it in both, 9 with the same value",
            "slme: 8 rows have it in both, 8 with the same value",
            "the same",
        ],
    )


def swap(rows, other):
    other[3], other[4] = other[4], other[3]


def drop(rows, other):
    del other[-1]


def damage(rows, other):
    rows[6]["atoms"]["elements"][0] = "Qq"


def change_value(rows, other):
    other[7]["bulk_modulus_kv"] += 0.01


def lose_value(rows, other):
    del other[8]["mbj_bandgap"]


def move_atom(rows, other):
    other[9]["frac_coords"][0][0] += 1e-4


def rename_another(rows, other):
    other[5]["elements"] = ["Xe"] * len(other[5]["elements"])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (swap, "order: differs, first at JVASP-388"),
        (drop, "  3 ids are in the first file only: JVASP-485, JVASP-1940, JVASP-3395"),
        (damage, "  3 ids are in the second file only: row-5, JVASP-582, row-20"),
        (change_value, "  another value: JVASP-679"),
        (lose_value, "  1 rows have it in one file only: JVASP-776"),
        (move_atom, "  not the same: JVASP-873"),
        (rename_another, "  not the same: JVASP-485"),
    ],
)
def test_what_differs_is_named(files, change, line):
    first, second = (list(read_rows(path)) for path in files(change))
    lines, is_same = compare(first, second, 2e-5)
    assert line in lines
    assert not is_same
