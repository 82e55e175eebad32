import numpy as np
import pytest

from crysmm.crystal import Crystal, as_crystal, to_fractional
from crysmm.errors import StructureError

CUBE = 4.0 * np.eye(3)


def assert_same(found, expected):
    np.testing.assert_allclose(found.lattice, expected.lattice, atol=1e-12)
    np.testing.assert_allclose(found.frac_coords, expected.frac_coords, atol=1e-12)
    np.testing.assert_array_equal(found.atomic_numbers, expected.atomic_numbers)


def test_formula_is_reduced_and_alphabetical(crystals):
    assert crystals["NaCl"].formula == "ClNa"
    assert crystals["ZrO2"].formula == "O2Zr"
    assert crystals["SrTiO3"].formula == "O3SrTi"
    assert crystals["Mg"].formula == "Mg"


def test_volume_does_not_depend_on_the_handedness(crystals):
    crystal = crystals["NaCl"]
    assert crystal.volume == pytest.approx(5.640**3)
    assert Crystal(-crystal.lattice, crystal.frac_coords, crystal.atomic_numbers).volume == pytest.approx(5.640**3)


def test_heights_and_volume_are_those_of_the_inverse():
    lattice = np.array([[3.0, 0.1, -0.4], [-1.2, 4.5, 0.3], [0.9, -2.0, 6.1]])
    crystal = Crystal.from_arrays(lattice, [[0, 0, 0]], ["Fe"])
    np.testing.assert_allclose(crystal.heights, 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0), rtol=1e-12)
    np.testing.assert_allclose(crystal.volume, abs(np.linalg.det(lattice)), rtol=1e-12)


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
        """What people make."""

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


def test_crystal_is_taken_as_it_is(crystals):
    assert as_crystal(crystals["Cu"]) is crystals["Cu"]


def test_coordinates_are_kept_as_written():
    assert Crystal.from_arrays(CUBE, [[-0.25, 1.5, 3.0]], ["Po"]).frac_coords.tolist() == [[-0.25, 1.5, 3.0]]


@pytest.mark.parametrize(
    ("lattice", "frac_coords", "elements", "message"),
    [
        (CUBE, [], [], "no atoms"),
        (CUBE, [[0, 0, 0]], ["Na", "Cl"], "expected a 3 x 3 lattice and 2 x 3 coordinates for 2 elements"),
        (CUBE, [[0, 0]], ["Na"], r"got \(3, 3\) and \(1, 2\)"),
        (CUBE[:2], [[0, 0, 0]], ["Na"], r"got \(2, 3\)"),
        (CUBE, [[0, 0, 0]], ["Xx"], "unknown element 'Xx'"),
        (CUBE, [[0, 0, 0]], ["na"], "unknown element 'na'"),
        (CUBE, [[0, 0, 0]], [11], "unknown element 11"),
        (CUBE, [[0, 0, 0]], [["Na"]], r"unknown element \['Na'\]"),
        (CUBE, [[0, 0, 0]], ["X"], "unknown element 'X'"),
        (CUBE, [[0, 0, 0]], None, "list of element symbols, got None"),
        (CUBE, [[0, 0, 0]], "N", "list of element symbols, got 'N'"),
        (CUBE, [[0, 0, float("nan")]], ["Na"], "coordinate is not finite"),
        (np.full((3, 3), np.inf), [[0, 0, 0]], ["Na"], "lattice holds a number that is not finite"),
        (CUBE, [[0, 0, "a"]], ["Na"], "not numbers"),
        (CUBE, [[0, 0, 0], [0, 0]], ["Na", "Cl"], "not numbers"),
        (CUBE, [[0, 0, 10**400]], ["Na"], "not numbers"),
        (CUBE, None, ["Na"], "expected a 3 x 3 lattice"),
        (np.diag([4.0, 4.0, 0.0]), [[0, 0, 0]], ["Na"], "volume of 0 cubic Angstrom"),
        (0.4 * np.eye(3), [[0, 0, 0]], ["Na"], "volume of 0.064"),
        (1e200 * CUBE, [[0, 0, 0]], ["Na"], "larger than 1e\\+06"),
        (CUBE, [[0, -1e12, 0]], ["Na"], "larger than 1e\\+06"),
    ],
)
def test_unusable_structures_are_refused(lattice, frac_coords, elements, message):
    with pytest.raises(StructureError, match=message):
        Crystal.from_arrays(lattice, frac_coords, elements)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ({}, "expected the keys lattice_mat, elements and frac_coords .* got none"),
        ({"lattice_mat": CUBE, "elements": ["Na"]}, "got elements, lattice_mat"),
        ({"lattice_mat": 0 * CUBE, "elements": ["Na"], "coords": [[0, 0, 0]], "cartesian": True}, "Singular matrix"),
        ({"lattice_mat": CUBE, "elements": ["Na"], "coords": None, "cartesian": True}, "fractional"),
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


def test_fractional_coordinates_of_a_skew_cell(crystals):
    crystal = crystals["CuO"]
    np.testing.assert_allclose(
        to_fractional(crystal.lattice, crystal.frac_coords @ crystal.lattice), crystal.frac_coords, atol=1e-12
    )


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
