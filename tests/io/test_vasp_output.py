"""Outputs of VASP, as ASE ships some for its own tests; pymatgen, and the numbers in the text, are the truth."""

import gzip
import re
from pathlib import Path

import ase
import numpy as np
import pytest
from pymatgen.io.vasp import Vasprun

from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError
from crysmm.io.inputs import open_source
from crysmm.io.structure_file import read_structure

EXAMPLES = Path(ase.__file__).parent / "test" / "testdata" / "vasp"
MOVED = "0.12345678"


@pytest.fixture
def vasprun(tmp_path: Path) -> Path:
    """Relaxation: the last structure differs from the first."""
    text = (EXAMPLES / "vasprun_pstress.xml").read_text()
    begin = text.rindex("<calculation>")
    first = re.search(r"<v> +\S+ +\S+ +\S+ </v>", text[text.index('name="positions"', begin) :])[0]
    (tmp_path / "vasprun.xml").write_text(text[:begin] + text[begin:].replace(first, f"<v> {MOVED} 0 0 </v>"))
    return tmp_path / "vasprun.xml"


def assert_same(crystal: Crystal, lattice: np.ndarray, frac_coords: np.ndarray, elements: list[str]) -> None:
    assert crystal.elements == elements
    np.testing.assert_allclose(crystal.lattice, lattice, atol=1e-6)
    steps = crystal.frac_coords - frac_coords
    np.testing.assert_allclose(steps - np.round(steps), 0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_vasprun_as_pymatgen_reads_it(vasprun: Path) -> None:
    for path in (EXAMPLES / "vasprun_dfpt.xml", EXAMPLES / "vasprun_pstress.xml"):
        final = Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False).final_structure
        assert_same(read_structure(path), final.lattice.matrix, final.frac_coords, [s.specie.symbol for s in final])
    assert read_structure(vasprun).frac_coords[0, 0] == pytest.approx(float(MOVED))


def test_outcar_as_it_is_written() -> None:
    path = EXAMPLES / "OUTCAR_example_1"
    text = path.read_text()
    rows = text.split("TOTAL-FORCE (eV/Angst)")[-1].splitlines()[2:]
    positions = np.array(
        [row.split()[:3] for row in rows[: next(n for n, row in enumerate(rows) if "---" in row)]], float
    )
    vectors = text.split("direct lattice vectors")[-1].splitlines()[1:4]
    lattice = np.array([re.findall(r"-?\d+\.\d{9}", row)[:3] for row in vectors], float)
    (symbol,) = set(re.findall(r"POTCAR: +PAW\w* (\w+)", text))
    elements = [symbol.split("_")[0]] * int(re.search(r"ions per type = +(\d+)\n", text)[1])
    assert_same(read_structure(path, "outcar"), lattice, positions @ np.linalg.inv(lattice), elements)
    assert read_structure(path).elements == elements


def test_outputs_of_a_calculation_that_did_not_end_are_refused(vasprun: Path, tmp_path: Path) -> None:
    """ASE takes the structure before the cut, in which nothing has moved yet."""
    text = vasprun.read_text()
    step = text.rindex("<calculation>")
    for damaged in (text[: step + 200], text[:-15], f"{text[:step]}&{text[step:]}", text + text):
        vasprun.write_text(damaged)
        with pytest.raises(StructureError, match=r"vasprun\.xml is cut off or damaged"):
            read_structure(vasprun)
    row = next(line for line in text[step:].splitlines(keepends=True) if MOVED in line)
    vasprun.write_text(text[:step] + text[step:].replace(row, ""))
    with pytest.raises(StructureError, match="its last structure has 1 of 2 positions"):
        read_structure(vasprun)
    outcar = tmp_path / "OUTCAR"
    text = (EXAMPLES / "OUTCAR_example_1").read_text()
    for cut in (text[:100_000], text + text[: text.rindex("TOTAL-FORCE") + 500]):
        outcar.write_text(cut)
        with pytest.raises(StructureError, match="OUTCAR is cut off"):
            read_structure(outcar)
    vasprun.write_text("<?xml version='1.0'?>\n<html></modeling>")
    with pytest.raises(StructureError, match=r"vasprun\.xml is cut off or damaged"):
        read_structure(vasprun)
    vasprun.write_text("<modeling><atominfo/></modeling>")
    with pytest.raises(StructureError, match=r"vasprun\.xml has no atoms or no step of a calculation"):
        read_structure(vasprun)


def test_steps_of_a_machine_learned_field_stand_beside_the_calculations(vasprun: Path) -> None:
    text = vasprun.read_text()
    moved = next(line for line in text.splitlines() if MOVED in line)
    (last,) = re.findall(r"<structure>.*?</structure>", text[text.rindex("<calculation>") :], flags=re.DOTALL)
    learned = last.replace(moved, moved.replace(MOVED, "0.22222222"))
    learned += "<varray name='forces'><v> 0 0 0 </v></varray><energy><i name='e_fr_energy'> ******** </i></energy>"
    vasprun.write_text(text.replace('<structure name="finalpos"', f'{learned}<structure name="finalpos"'))
    assert read_structure(vasprun).frac_coords[0, 0] == pytest.approx(0.22222222)


def test_displaced_atoms_are_no_crystal(vasprun: Path, tmp_path: Path) -> None:
    outcar = tmp_path / "OUTCAR"
    ibrion = '<i type="int" name="IBRION">    -1</i>'
    assert ibrion in vasprun.read_text()
    vasprun.write_text(vasprun.read_text().replace(ibrion, ibrion.replace("-1", " 6")))
    outcar.write_text((EXAMPLES / "OUTCAR_example_1").read_text().replace("IBRION =     -1", "IBRION =      5"))
    for path, number in ((vasprun, 6), (outcar, 5)):
        with pytest.raises(StructureError, match=rf"displaces atoms \(IBRION = {number}\)"):
            read_structure(path)


def test_an_outcar_of_two_calculations_or_without_its_last_energy_is_refused(tmp_path: Path) -> None:
    """Refuse files of which ASE reads the elements of one structure and the positions of another."""
    outcar = tmp_path / "OUTCAR"
    text = (EXAMPLES / "OUTCAR_example_1").read_text()
    outcar.write_text(text + text.replace("PAW_PBE Ni ", "PAW_PBE Au "))
    with pytest.raises(StructureError, match="OUTCAR holds several calculations; expected one"):
        read_structure(outcar)
    table = text[text.rindex(" POSITION ") : text.rindex("FREE ENERGIE OF THE ION-ELECTRON SYSTEM")]
    end = text.rindex("General timing")
    outcar.write_text(f"{text[:end]}{table}{text[end:]}")
    with pytest.raises(StructureError, match="the last step of OUTCAR has positions but no energy"):
        read_structure(outcar)


def test_an_outcar_that_ase_cannot_read_says_what_to_give(tmp_path: Path) -> None:
    text = (EXAMPLES / "OUTCAR_example_1").read_text()
    (tmp_path / "OUTCAR").write_text(re.sub(r"(?<=energy  without entropy= ) *\S+", " w/o vdW", text))
    with pytest.raises(StructureError, match=r"cannot be read by ASE .*; give CONTCAR or vasprun\.xml"):
        read_structure(tmp_path / "OUTCAR")


def test_a_file_that_is_compressed_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.vasp.gz"
    path.write_bytes(gzip.compress(gzip.compress(b"Si")))
    with pytest.raises(StructureError, match="compressed twice; unpack it once"):
        read_structure(path)


def test_folders_of_calculations(vasprun: Path, tmp_path: Path) -> None:
    """The only file is read, packed or not; of several the id or the format chooses."""
    root = tmp_path / "data"
    outcar = (EXAMPLES / "OUTCAR_example_1").read_bytes()
    files = {
        "mp-1/vasprun.xml": vasprun.read_bytes(),
        "mp-2/vasprun.xml.gz": gzip.compress(vasprun.read_bytes()),
        "mp-3/OUTCAR": outcar,
        "mp-4/OUTCAR": outcar,
        "mp-4/vasprun.xml": vasprun.read_bytes(),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "id_prop.csv").write_text("id,gap\n" + "".join(f"mp-{number},{number}\n" for number in range(1, 5)))
    *rows, refused = open_source(root).rows()
    assert [row.file for row in rows] == ["mp-1/vasprun.xml", "mp-2/vasprun.xml.gz", "mp-3/OUTCAR"]
    assert [row.read().crystal.elements[0] for row in rows[:2]] == ["C", "C"]
    assert refused.reason == "several structure files: mp-4/vasprun.xml, mp-4/OUTCAR; name one of them as the id"
    chosen = list(open_source(root, file_format="vasprun").rows())
    assert [row.file for row in chosen if row.id == "mp-4"] == ["mp-4/vasprun.xml"]
    (root / "id_prop.csv").unlink()
    ids = [row.id for row in open_source(root, needs_targets=False).rows()]
    assert ids == ["mp-1", "mp-2", "mp-3", "mp-4/OUTCAR", "mp-4/vasprun.xml"]
