"""Folders as CGCNN, ALIGNN and CrysMMNet keep them, read as they are."""

import csv
import json
from pathlib import Path

import pytest

from crysmm.config import TrainingConfig
from crysmm.crystals.crystal import Crystal
from crysmm.data.split import make_split
from crysmm.errors import InputError
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


LONG = "A crystal, with commas. " * 8000  # longer than a cell of the csv module may be


def write_crysmmnet(folder: Path, crystals: dict[str, Crystal], header: str, **values) -> None:
    """Write CIF files and a table as CrysMMNet's authors have it: id, composition, the targets, text, one unused."""
    from ase import Atoms
    from ase.io import write

    with (folder / "id_prop.csv").open("w", newline="") as file:
        file.write(header + "\n")
        for identifier, crystal in crystals.items():
            atoms = Atoms(crystal.elements, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
            write(folder / f"{identifier}.cif", atoms)
            targets = values.get(identifier, [TARGETS[identifier]])
            csv.writer(file).writerow([identifier, crystal.formula, *targets, LONG, "A crystal."])


@pytest.mark.parametrize("key", [None, "target", "mbj"])
def test_crysmmnet_jarvis(three, tmp_path, key):
    """Five columns with a header: the only one with numbers is the target, and texts have to be named."""
    write_crysmmnet(tmp_path, three, "id,composition,mbj,crys_desc_full,crys_desc")
    source = open_source(tmp_path, target_key=key)
    assert source.target_names == ("mbj",)
    assert read(tmp_path, target_key=key) == {one: ((TARGETS[one],), three[one].formula) for one in three}
    assert source.descriptions("crys_desc_full") == dict.fromkeys(TARGETS, LONG.strip())
    assert source.descriptions("crys_desc") == dict.fromkeys(TARGETS, "A crystal.")
    with pytest.raises(InputError, match=r"--head\.description_column: composition, crys_desc_full, crys_desc$"):
        source.descriptions()
    with pytest.raises(InputError, match=r"no columns of text called 'cris_desc'.*; did you mean crys_desc\?"):
        source.descriptions("cris_desc")
    with pytest.raises(InputError, match="no columns of text called 'mbj'"):
        source.descriptions("mbj")


def test_crysmmnet_mp(three, tmp_path):
    """Six columns: which of the two numbers is learned has to be said, and no text can be."""
    values = {name: [target, -target] for name, target in TARGETS.items()}
    write_crysmmnet(tmp_path, three, "id,composition,fe,gap,description,", **values)
    with pytest.raises(InputError, match=r"texts in composition, description, .* several columns; .*: fe, gap$"):
        open_source(tmp_path)
    with pytest.raises(InputError, match=r"no column of numbers 'composition' \(target_key\); it has fe, gap"):
        open_source(tmp_path, target_key="composition")
    with pytest.raises(InputError, match=r"no column of numbers 'gaps'.*; did you mean gap\?"):
        open_source(tmp_path, target_key="gaps")
    expected = {one: ((-TARGETS[one],), crystal.formula) for one, crystal in three.items()}
    assert read(tmp_path, target_key="gap") == expected
    assert open_source(tmp_path, target_key="gap,fe").target_names == ("gap", "fe")
    assert open_source(tmp_path, target_key="fe").descriptions() == dict.fromkeys(TARGETS, LONG.strip())


def test_texts_without_a_header_are_no_targets(three, tmp_path):
    """Without names, no one can say which column is meant, and the first row may not be taken for them."""
    write_crysmmnet(tmp_path, three, "")
    with pytest.raises(InputError, match="no header, and no number in column 2, 4, 5; add a header line"):
        open_source(tmp_path)


def test_a_formula_is_no_number(three, tmp_path):
    """Python reads InF as infinity, and Na is how tables write a missing value."""
    write_crysmmnet(tmp_path, three, "id,composition,gap,text,unused")
    lines = (tmp_path / "id_prop.csv").read_text().replace("NaCl", "InF").replace("TiO2", "Na")
    (tmp_path / "id_prop.csv").write_text(lines)
    assert open_source(tmp_path).target_names == ("gap",)


def test_two_columns_of_one_name_are_refused(three, tmp_path):
    write_crysmmnet(tmp_path, three, "id,gap,gap,text,text")
    (tmp_path / "id_prop.csv").write_text("id,gap,gap,text,text\n9000046,1,2,one,two\n")
    with pytest.raises(InputError, match="has 2 columns 'gap'"):
        open_source(tmp_path, target_key="gap")
    with pytest.raises(InputError, match="has 2 columns of text called 'text'"):
        open_source(tmp_path, needs_targets=False).descriptions("text")
