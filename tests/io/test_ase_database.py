"""Databases of ASE, written by ASE."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from crysmm.errors import InputError, StructureError
from crysmm.io.inputs import open_source

NAMES = ("NaCl", "Si", "CuO")


@pytest.fixture
def database(crystals, tmp_path: Path) -> Path:
    path = tmp_path / "crystals.db"
    with connect(path, use_lock_file=False) as database:
        for number, name in enumerate(NAMES):
            atoms = crystals[name].to_ase()
            atoms.calc = SinglePointCalculator(atoms, energy=-1.5 * number, forces=np.ones((len(atoms), 3)))
            database.write(atoms, gap=number / 3, formula_text=name, data={"dos": np.arange(3)})
        database.write(Atoms("H2O", positions=np.eye(3)), gap=2)
    return path


def test_rows_and_their_properties(database: Path, crystals) -> None:
    """Key-value pairs and energies are properties; a molecule is no crystal; the file stays as it is."""
    before = database.read_bytes()
    source = open_source(database, target_key="gap,energy")
    assert (source.target_names, source.n_rows) == (("gap", "energy"), 4)
    *rows, molecule = source.rows()
    for number, (name, row) in enumerate(zip(NAMES, rows, strict=True)):
        record = row.read()
        assert (record.id, record.file) == (str(number + 1), f"crystals.db:row {number + 1}")
        np.testing.assert_allclose(record.targets, [number / 3, -1.5 * number])
        assert record.crystal.elements == crystals[name].elements
        np.testing.assert_allclose(record.crystal.lattice, crystals[name].lattice)
        np.testing.assert_allclose(record.crystal.frac_coords, crystals[name].frac_coords, atol=1e-12)
    with pytest.raises(StructureError, match="not periodic"):
        molecule.read()
    assert next(iter(open_source(database, target_key="gap", id_key="formula_text").rows())).id == "NaCl"
    with pytest.raises(InputError, match="choose with target_key: energy, gap"):
        open_source(database)
    assert database.read_bytes() == before


def test_other_files_are_refused_and_stay_as_they_are(database: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = other.read_bytes()
    with pytest.raises(InputError, match="no database of ASE: it has no table of systems"):
        open_source(other)
    assert other.read_bytes() == before
    other.write_text("a,1\n" * 100)
    with pytest.raises(InputError, match="cannot be read as a database of ASE"):
        open_source(other)
    other.write_bytes(database.read_bytes()[:6000])
    with pytest.raises(InputError, match="cannot be read as a database of ASE"):
        open_source(other)
