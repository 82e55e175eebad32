"""Folders as CGCNN, ALIGNN and CrysMMNet keep them, read as they are."""

import csv
import json
from pathlib import Path

import pytest

from crysmm.config import TrainingConfig
from crysmm.crystal import Crystal
from crysmm.data.split import make_split
from crysmm.io.cif import parse_cif
from crysmm.io.inputs import open_source

TARGETS = {"9000046": 0.25, "1000041": -1.5, "8101020": 3.0}


@pytest.fixture
def three(crystals) -> dict[str, Crystal]:
    """Three crystals by the ids of a database."""
    return dict(zip(TARGETS, (crystals[name] for name in ("NaCl", "TiO2", "Si")), strict=True))


def poscar(crystal: Crystal) -> str:
    jarvis = crystal.to_jarvis()
    from jarvis.io.vasp.inputs import Poscar

    return Poscar(jarvis).to_string()


def read(folder: Path, **options):
    found = [row.read() for row in open_source(folder, **options).rows()]
    return {record.id: (record.targets, record.crystal.formula) for record in found}


def test_cgcnn(three, tmp_path):
    """id_prop.csv without a header, ID.cif, and its element features in atom_init.json."""
    from ase import Atoms
    from ase.io import write

    for name, crystal in three.items():
        atoms = Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
        write(tmp_path / f"{name}.cif", atoms)
        assert parse_cif((tmp_path / f"{name}.cif").read_text()).crystal.formula == crystal.formula
    (tmp_path / "id_prop.csv").write_text("".join(f"{name},{value}\n" for name, value in TARGETS.items()))
    (tmp_path / "atom_init.json").write_text(json.dumps({"1": [0, 1]}))
    expected = {name: ((TARGETS[name],), crystal.formula) for name, crystal in three.items()}
    assert read(tmp_path) == expected


def test_alignn(three, tmp_path):
    """Ids are names of files, here POSCARs without an ending; the file of ids names them likewise."""
    names = {f"POSCAR-{name}.vasp": name for name in TARGETS}
    for file, name in names.items():
        (tmp_path / file).write_text(poscar(three[name]))
    (tmp_path / "id_prop.csv").write_text("".join(f"{file},{TARGETS[name]}\n" for file, name in names.items()))
    assert read(tmp_path) == {file: ((TARGETS[name],), three[name].formula) for file, name in names.items()}
    train, val, test = names
    ids = tmp_path / "ids_train_val_test.json"
    ids.write_text(json.dumps({"id_train": [val], "id_val": [train], "id_test": [test]}))
    split = make_split(TrainingConfig(ids_file=ids), list(names), ["A", "B", "C"])
    assert (split.train, split.val, split.test) == ([1], [0], [2])


@pytest.mark.parametrize(
    ("key", "name"), [(None, "target"), ("target", "target"), ("formation_energy", "formation_energy")]
)
def test_crysmmnet(three, tmp_path, key, name):
    """Id, composition, target and description without a header; --property names the target."""
    with (tmp_path / "id_prop.csv").open("w", newline="") as file:
        for identifier, crystal in three.items():
            (tmp_path / f"{identifier}.vasp").write_text(poscar(crystal))
            csv.writer(file).writerow([identifier, crystal.formula, TARGETS[identifier], "A crystal, with commas."])
    source = open_source(tmp_path, target_key=key)
    assert source.target_names == (name,)
    assert source.descriptions() == dict.fromkeys(TARGETS, "A crystal, with commas.")
    expected = {one: ((TARGETS[one],), crystal.formula) for one, crystal in three.items()}
    assert read(tmp_path, target_key=key) == expected
