import numpy as np
import pytest

from crysmm.crystals.conversion import as_crystal
from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError
from tests.crystals.same import assert_same

CUBE = 4.0 * np.eye(3)


def test_atoms_of_jarvis_and_back(crystal):
    atoms = crystal.to_jarvis()
    assert atoms.elements == crystal.elements
    assert_same(as_crystal(atoms), crystal)
    assert_same(as_crystal(atoms.to_dict()), crystal)


def test_structure_of_pymatgen(crystal):
    core = pytest.importorskip("pymatgen.core")
    structure = core.Structure(crystal.lattice, crystal.elements, crystal.frac_coords)
    assert_same(as_crystal(structure), crystal)


def test_oxidation_states_of_pymatgen_are_dropped(crystals):
    core = pytest.importorskip("pymatgen.core")
    crystal = crystals["CsCl"]
    assert_same(as_crystal(core.Structure(crystal.lattice, ["Cs+", "Cl-"], crystal.frac_coords)), crystal)


def test_atoms_of_ase(crystal):
    ase = pytest.importorskip("ase")
    atoms = ase.Atoms(crystal.elements, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
    assert_same(as_crystal(atoms), crystal)


def test_classes_made_from_theirs_are_taken(crystals):
    ase, crystal = pytest.importorskip("ase"), crystals["CsCl"]

    class Sample(ase.Atoms):
        """Subclass of the kind that people make."""

    atoms = Sample(crystal.elements, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
    assert_same(as_crystal(atoms), crystal)


def test_dict_with_cartesian_coordinates(crystals):
    crystal = crystals["SiO2"]
    structure = {
        "lattice_mat": crystal.lattice.tolist(),
        "coords": (crystal.frac_coords @ crystal.lattice).tolist(),
        "elements": crystal.elements,
        "cartesian": True,
    }
    assert_same(as_crystal(structure), crystal)
    structure |= {"coords": crystal.frac_coords.tolist(), "cartesian": False}
    assert_same(as_crystal(structure), crystal)


@pytest.mark.parametrize("name", ["SiO2", "CuO", "NaCl", "ZrO2"])
def test_what_a_dict_gives_twice_may_be_rounded(name, crystals):
    """The cell as lengths and angles, the sites as fractional and Cartesian coordinates; JARVIS and pymatgen write."""
    core, crystal = pytest.importorskip("pymatgen.core"), crystals[name]
    twice = {
        **crystal.to_jarvis().to_dict(), "pbc": [True] * 3, "occupancy": [1] * len(crystal),
        "frac_coords": (crystal.frac_coords - 1).tolist(), "cartesian": True,
        "coords": (crystal.frac_coords @ crystal.lattice).round(2).tolist(),
    }  # fmt: skip
    twice |= {key: np.round(twice[key], 1).tolist() for key in ("abc", "angles")}
    assert as_crystal(twice).elements == crystal.elements
    assert as_crystal({key: value for key, value in twice.items() if key != "cartesian"}).elements == crystal.elements
    for structure in ({**twice, "pbc": [True, True, False]}, {**twice, "pbc": False}):
        with pytest.raises(StructureError, match="not periodic in three directions"):
            as_crystal(structure)
    contradictions = {
        "abc": [9, *twice["abc"][1:]], "angles": [*twice["angles"][:2], 101],
        "occupancy": [0.5, *[1] * (len(crystal) - 1)],
        "coords": (crystal.frac_coords @ crystal.lattice + np.eye(len(crystal), 3)).tolist(), "cartesian": False,
    }  # fmt: skip
    others = {
        "coords": [["x"]],
        "occupancies": [],
        "abc": "P",
        "angles": [10**400, 1, None],
    }
    assert as_crystal({**twice, **others, "coords": "none", "cartesian": False}).elements == crystal.elements
    assert as_crystal({**twice, "coords": [], "cartesian": True}).elements == crystal.elements
    with pytest.raises(StructureError, match="the two lists of coordinates are not of the same sites"):
        as_crystal({**twice, **others, "cartesian": False})
    for key, value in contradictions.items():
        with pytest.raises(StructureError, match=r"contradicts itself|partial occupancy: atom 1 is occupied to 0.5"):
            as_crystal({**twice, key: value})
    content = core.Structure(crystal.lattice, crystal.elements, crystal.frac_coords).as_dict(verbosity=1)
    content["sites"][0]["xyz"] = (content["sites"][0]["xyz"] + crystal.lattice[0] + 0.01).tolist()
    assert_same(as_crystal(content), crystal)
    for key in ("a", "beta"):
        with pytest.raises(StructureError, match=r"contradicts itself: its (lengths|angles) are"):
            as_crystal({**content, "lattice": {**content["lattice"], key: 70}})
    content["sites"][0]["xyz"][2] += 0.5
    with pytest.raises(StructureError, match=r"two lists of coordinates are up to 0\.5\d Angstrom apart"):
        as_crystal(content)


def test_crystal_is_taken_as_it_is(crystals):
    assert as_crystal(crystals["Cu"]) is crystals["Cu"]


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ({}, "expected the keys lattice_mat, elements and frac_coords .* got none"),
        ({"lattice_mat": CUBE, "elements": ["Na"]}, "got elements, lattice_mat"),
        ({"lattice_mat": 0 * CUBE, "elements": ["Na"], "coords": [[0, 0, 0]], "cartesian": True}, "Singular matrix"),
        ({"lattice_mat": CUBE, "elements": ["Na"], "coords": [[2, 2, 2]]}, "may be fractional, or in Angstrom"),
        ({"lattice_mat": CUBE, "elements": ["Na"], "coords": None, "cartesian": True}, "got cartesian, elements, lat"),
        ({"lattice_mat": CUBE, "elements": ["Na"], "coords": [["x"]], "cartesian": True}, "fractional"),
        ({"lattice_mat": CUBE, "elements": {"Na"}, "frac_coords": [[0, 0, 0]]}, "expected a list of element symbols"),
        ({"lattice_mat": CUBE, "elements": {"Na": 1}, "frac_coords": [[0, 0, 0]]}, "expected a list of element symb"),
    ],
)
def test_unusable_dicts_are_refused(structure, message):
    with pytest.raises(StructureError, match=message):
        as_crystal(structure)


def test_partial_occupancy_is_refused():
    core = pytest.importorskip("pymatgen.core")
    structure = core.Structure(CUBE, [{"Au": 0.5, "Cu": 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match="partial occupancy"):
        as_crystal(structure)


def test_molecules_and_slabs_are_refused():
    core, ase = pytest.importorskip("pymatgen.core"), pytest.importorskip("ase")
    with pytest.raises(StructureError, match="Molecule has no lattice"):
        as_crystal(core.Molecule(["N", "N"], [[0, 0, 0], [0, 0, 1.1]]))
    with pytest.raises(StructureError, match="not periodic"):
        as_crystal(core.Structure(core.Lattice(CUBE, pbc=(True, True, False)), ["Cu"], [[0, 0, 0]]))
    with pytest.raises(StructureError, match="not periodic"):
        as_crystal(ase.Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]))
    with pytest.raises(StructureError, match="not periodic"):
        as_crystal(ase.Atoms("Cu", cell=CUBE, pbc=[True, True, False]))


@pytest.mark.parametrize("structure", [None, 3, "POSCAR", [1, 2]])
def test_other_types_are_named(structure):
    with pytest.raises(TypeError, match=f"expected a JARVIS Atoms.*got {type(structure).__name__}"):
        as_crystal(structure)


def test_dict_of_pymatgen(crystal):
    from pymatgen.core import Species, Structure

    structure = Structure(crystal.lattice, crystal.elements, crystal.frac_coords)
    assert_same(as_crystal(structure.as_dict()), crystal)
    structure.replace(0, Species(crystal.elements[0], 2))
    assert_same(as_crystal(structure.as_dict(verbosity=0)), crystal)


def test_dicts_of_pymatgen_that_are_refused(crystals):
    from pymatgen.core import Lattice, Structure

    shared = Structure(CUBE, [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]).as_dict()
    vacant = Structure(CUBE, [{"Na": 0.5}], [[0, 0, 0]]).as_dict()
    slab = Structure(Lattice(CUBE, pbc=(True, True, False)), ["Na"], [[0, 0, 0]]).as_dict()
    for structure, reason in ((shared, "partial"), (vacant, "partial"), (slab, "not periodic")):
        with pytest.raises(StructureError, match=reason):
            as_crystal(structure)
    with pytest.raises(StructureError, match="pymatgen Structure is incomplete"):
        as_crystal({"lattice": {}, "sites": [{}]})


def test_deuterium_is_hydrogen_at_every_door():
    ase, core = pytest.importorskip("ase"), pytest.importorskip("pymatgen.core")
    dictionary = {"lattice_mat": CUBE.tolist(), "coords": [[0, 0, 0]], "elements": ["D"]}
    sites = [{"species": [{"element": "D", "occu": 1}], "abc": [0, 0, 0]}]
    for structure in (
        dictionary,
        {"lattice": {"matrix": CUBE.tolist()}, "sites": sites},
        core.Structure(CUBE, ["D"], [[0, 0, 0]]),
        Crystal.from_arrays(CUBE, [[0, 0, 0]], np.array(["D"])),
        ase.Atoms("H", cell=CUBE, pbc=True, masses=[2.014]),
    ):
        assert as_crystal(structure).elements == ["H"]


def test_structure_of_pymatgen_from_cartesian_coordinates(crystals):
    core, crystal = pytest.importorskip("pymatgen.core"), crystals["ZrO2"]
    positions = crystal.frac_coords @ crystal.lattice
    structure = core.Structure(crystal.lattice, crystal.elements, positions, coords_are_cartesian=True)
    assert_same(as_crystal(structure), crystal)
    assert_same(as_crystal(structure.as_dict()), crystal)


def test_atoms_of_jarvis_from_cartesian_coordinates(crystals):
    from jarvis.core.atoms import Atoms

    crystal = crystals["TiO2"]
    positions = (crystal.frac_coords @ crystal.lattice).tolist()
    atoms = Atoms(crystal.lattice.tolist(), positions, crystal.elements, cartesian=True)
    assert_same(as_crystal(atoms), crystal)
    assert_same(as_crystal(atoms.to_dict()), crystal)


@pytest.mark.parametrize("cartesian", ["false", "True", None, 2, []])
def test_cartesian_that_is_neither_true_nor_false_is_refused(cartesian):
    structure = {"lattice_mat": CUBE, "coords": [[0, 0, 0]], "elements": ["Cu"], "cartesian": cartesian}
    with pytest.raises(StructureError, match=r"cartesian is .*; expected true or false"):
        as_crystal(structure)


def test_fractional_coordinates_said_to_be_cartesian_are_refused():
    structure = {"lattice_mat": CUBE, "frac_coords": [[0, 0, 0]], "elements": ["Cu"], "cartesian": True}
    with pytest.raises(StructureError, match="cartesian is true, and there are frac_coords alone"):
        as_crystal(structure)


def test_atoms_of_ase_with_a_constraint_and_with_a_dummy(crystals):
    ase, constraints = pytest.importorskip("ase"), pytest.importorskip("ase.constraints")
    crystal = crystals["SiO2"]
    atoms = ase.Atoms(crystal.elements, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
    atoms.set_constraint([constraints.FixAtoms([0, 1]), constraints.FixScaled(2, [True, False, True])])
    assert_same(as_crystal(atoms), crystal)
    atoms.set_constraint()
    atoms.symbols[3] = "X"
    with pytest.raises(StructureError, match="unknown element 'X'"):
        as_crystal(atoms)


def test_atoms_that_pymatgen_makes_for_ase(crystals):
    """Convert atoms whose class has a base in pymatgen and one in ASE."""
    from pymatgen.core import Lattice, Structure

    for crystal in crystals.values():
        structure = Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords)
        atoms = structure.to_ase_atoms()
        assert type(atoms).__module__.startswith("pymatgen")
        np.testing.assert_allclose(as_crystal(atoms).frac_coords, crystal.frac_coords, atol=1e-9)
        assert as_crystal(atoms).elements == crystal.elements


def test_objects_that_are_parts_of_a_structure_are_named(crystals):
    core, ase = pytest.importorskip("pymatgen.core"), pytest.importorskip("ase")
    from jarvis.core.lattice import Lattice

    site = core.Structure(CUBE, ["Cs"], [[0, 0, 0]])[0]
    for part in (ase.Atom("Cs"), ase.cell.Cell(CUBE), Lattice(CUBE.tolist()), site):
        with pytest.raises(TypeError, match=f"expected a JARVIS Atoms.*got {type(part).__name__}"):
            as_crystal(part)
