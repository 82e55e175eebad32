import contextlib
import io

import numpy as np
import pytest

from crysmm.config import GraphSettings
from crysmm.crystal import LARGEST_SKEW, Crystal, as_crystal, to_fractional
from crysmm.errors import StructureError
from crysmm.graphs.neighbors import find_edges

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
        (100 * CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], ["Na", "Cl"], "2 atoms has a volume of 6.4e\\+07"),
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


@pytest.mark.parametrize("symbol", ["T", "d", "D1", np.array(["D", "D"])])
def test_what_is_not_deuterium(symbol):
    with pytest.raises(StructureError, match="unknown element"):
        Crystal.from_arrays(CUBE, [[0, 0, 0]], [symbol])


def site_of(*occupancies):
    """The dict of a pymatgen structure with a chlorine atom and a site of these species."""
    species = [{"element": element, "occu": occupancy} for element, occupancy in occupancies]
    chlorine = {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]}
    return {"lattice": {"matrix": CUBE.tolist()}, "sites": [{"species": species, "abc": [0, 0, 0]}, chlorine]}


@pytest.mark.parametrize("species", [[("Cs", 0.9999)], [("Cs", 1.0009)], [("Cs", 0.5), ("Cs", 0.5)]])
def test_site_of_one_element_is_full_within_rounding(species):
    assert as_crystal(site_of(*species)).elements == ["Cs", "Cl"]


def test_oxidation_states_that_share_a_site_are_one_element():
    core = pytest.importorskip("pymatgen.core")
    structure = core.Structure(CUBE, [{"Fe2+": 0.5, "Fe3+": 0.4999}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for form in (structure, structure.as_dict()):
        assert as_crystal(form).elements == ["Fe", "O"]


@pytest.mark.parametrize(
    ("species", "found"),
    [
        ([], "nothing"),
        ([("Cs", 0.998)], "Cs 0.998"),
        ([("Cs", 1.002)], "Cs 1.002"),
        ([("Cs", float("nan"))], "Cs nan"),
        ([("Cs", 0.5), ("Rb", 0.5)], "Cs 0.5, Rb 0.5"),
        ([("Cs", 0.9999), ("Rb", 0.0001)], "Cs 0.9999, Rb 0.0001"),
        ([("Fe2+", 0.5), ("Fe3+", 0.5)], r"Fe2\+ 0.5, Fe3\+ 0.5"),
    ],
)
def test_site_that_holds_no_one_element_is_refused(species, found):
    with pytest.raises(StructureError, match=f"partial occupancy: site 1 holds {found}; give an ordered structure"):
        as_crystal(site_of(*species))


def test_other_sites_of_pymatgen_that_are_refused():
    core = pytest.importorskip("pymatgen.core")
    dummy = core.Structure(CUBE, [core.DummySpecies("X", 1)], [[0, 0, 0]])
    empty = core.Structure(CUBE, [{}], [[0, 0, 0]])
    for structure, reason in ((dummy, "unknown element 'X'"), (empty, "site 1 holds nothing")):
        for form in (structure, structure.as_dict()):
            with pytest.raises(StructureError, match=reason):
                as_crystal(form)
    for occupancy in (None, "1"):
        with pytest.raises(StructureError, match=f"site 1 has the occupancy {occupancy!r} of Cs; expected a number"):
            as_crystal(site_of(("Cs", occupancy)))


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


def test_disorder_that_ase_keeps_beside_its_atoms_is_refused(crystals):
    ase, ase_io = pytest.importorskip("ase"), pytest.importorskip("ase.io")
    sites = "Na1 Na 0 0 0 0.6\nK1 K 0 0 0 0.4\nCl1 Cl .5 .5 .5 1\n"
    names = "label type_symbol fract_x fract_y fract_z occupancy".split()
    cell = "".join(
        f"_cell_length_{axis} 4\n_cell_angle_{angle} 90\n"
        for axis, angle in zip("abc", ("alpha", "beta", "gamma"), strict=True)
    )
    text = f"data_x\n{cell}loop_\n" + "".join(f"_atom_site_{name}\n" for name in names) + sites
    atoms = ase_io.read(io.StringIO(text), format="cif")
    with pytest.raises(StructureError, match=r"partial occupancy: .* kind 0 .* holds Na 0\.6, K 0\.4"):
        as_crystal(atoms * (1, 1, 2))
    assert as_crystal(atoms[[1]]).formula == "Cl"
    atoms.info["occupancy"] = {int(kind): shares for kind, shares in atoms.info["occupancy"].items()}
    with pytest.raises(StructureError, match=r"partial occupancy: .* kind 0 .* holds Na 0\.6, K 0\.4"):
        as_crystal(atoms)
    atoms.info["occupancy"] = {"0": {"Na": {"Na": 1}}}
    with pytest.raises(StructureError, match=r"kind 0 .* has the occupancy {'Na': 1} of Na; expected a number"):
        as_crystal(atoms)
    atoms.info["occupancy"] = None
    assert as_crystal(atoms).formula == "ClNa"
    salt = ase.Atoms("NaCl", [[0, 0, 0], [2, 2, 2]], cell=CUBE, pbc=True)
    salt.set_array("occupancy", np.array([1.0, 0.5]))
    with pytest.raises(StructureError, match=r"atom 2 is occupied to 0\.5"):
        as_crystal(salt)


def unimodular(generator, steps):
    """A random whole matrix of determinant 1."""
    matrix = np.eye(3, dtype=int)
    for _ in range(steps):
        first, second = generator.choice(3, 2, replace=False)
        matrix[first] += generator.integers(-4, 5) * matrix[second]
    return matrix


def bond_lengths(crystal, settings):
    """Sorted lengths of all edges."""
    return np.sort(np.linalg.norm(find_edges(crystal, settings).vectors(crystal), axis=1))


@pytest.mark.parametrize("seed", range(3))
def test_skewed_cells_give_the_graph_of_the_crystal(crystal, seed):
    generator = np.random.default_rng(seed)
    reduced = 0
    for steps in (3, 5, 8, 8):
        matrix = unimodular(generator, steps)
        coords = crystal.frac_coords @ np.round(np.linalg.inv(matrix))
        raw = Crystal(matrix @ crystal.lattice, coords, crystal.atomic_numbers)
        skewed = Crystal.from_arrays(raw.lattice, coords, crystal.elements)
        if raw.skew > LARGEST_SKEW:
            reduced += 1
            assert skewed.skew < 3
            assert skewed.elements == crystal.elements
            assert skewed.volume == pytest.approx(crystal.volume)
            steps = (skewed.frac_coords @ skewed.lattice - coords @ raw.lattice) @ np.linalg.inv(raw.lattice)
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)  # moved by whole lattice vectors
            assert_same(Crystal.from_arrays(skewed.lattice, skewed.frac_coords, skewed.elements), skewed)
        else:
            assert_same(skewed, raw)
        for settings in (GraphSettings(), GraphSettings(neighbor_strategy="radius", cutoff=5.0)):
            np.testing.assert_allclose(bond_lengths(skewed, settings), bond_lengths(crystal, settings), atol=1e-6)
    assert reduced


def test_unreduced_cell_of_copper_is_copper(crystals):
    lattice = [[0, 1.8075, 1.8075], [1.8075, 16.2675, 18.075], [34.3425, -18.075, 12.6525]]
    skewed = Crystal.from_arrays(lattice, [[0.25, 0.5, 0.75]], ["Cu"])
    settings = GraphSettings()
    np.testing.assert_allclose(bond_lengths(skewed, settings), bond_lengths(crystals["Cu"], settings), atol=1e-9)


def test_cells_of_the_crystals_are_kept(crystal):
    assert crystal.skew < 3
    assert_same(Crystal.from_arrays(crystal.lattice, crystal.frac_coords, crystal.elements), crystal)


@pytest.mark.parametrize("exponent", range(16))
def test_flat_and_thin_cells_end_at_once(exponent):
    """What rounding leaves of a cell is not reduced; the search refuses it."""
    generator = np.random.default_rng(exponent)
    for _ in range(20):
        lattice = generator.integers(-1, 2, size=(3, 3)) * 1e5 + generator.normal(size=(3, 3)) * 10.0 ** (4 - exponent)
        crystal = Crystal(lattice, np.array([[0.1, 0.2, 0.3]]), np.array([29], dtype=np.uint8))
        with contextlib.suppress(StructureError):  # of no volume
            crystal = Crystal.from_arrays(lattice, [[0.1, 0.2, 0.3]], ["Cu"])
        assert crystal.volume == pytest.approx(Crystal(lattice, crystal.frac_coords, crystal.atomic_numbers).volume)


def test_reduction_that_does_not_end_leaves_the_cell(monkeypatch):
    def endless(lattice):
        raise RuntimeError("Reduced basis not found after 100000 iterations")

    monkeypatch.setattr("ase.geometry.minkowski_reduce", endless)
    lattice = np.array([[3.0, 0, 0], [300, 3, 0], [0, 0, 3]])
    np.testing.assert_array_equal(Crystal.from_arrays(lattice, [[0, 0, 0]], ["Cu"]).lattice, lattice)


def test_atoms_that_pymatgen_makes_for_ase(crystals):
    """Its class has a base in pymatgen and one in ASE."""
    from pymatgen.core import Lattice, Structure

    for crystal in crystals.values():
        structure = Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords)
        atoms = structure.to_ase_atoms()
        assert type(atoms).__module__.startswith("pymatgen")
        np.testing.assert_allclose(as_crystal(atoms).frac_coords, crystal.frac_coords, atol=1e-9)
        assert as_crystal(atoms).elements == crystal.elements


def test_occupancies_of_any_name_are_refused(crystals):
    """Refuse them in arrays of ASE, site properties of pymatgen, as objects and as dicts, and beside JARVIS' sites."""
    core, crystal = pytest.importorskip("pymatgen.core"), crystals["CsCl"]
    for name in ("occ", "occupancies", "occupations", "site_occupancy", "sof"):
        atoms = crystal.to_ase()
        atoms.set_array(name, np.array([0.5, 1.0]))
        structure = core.Structure(
            crystal.lattice, crystal.elements, crystal.frac_coords, site_properties={name: [0.5, 1.0]}
        )
        for disordered in (atoms, structure, structure.as_dict(), {**crystal.to_jarvis().to_dict(), name: [0.5, 1]}):
            with pytest.raises(StructureError, match=r"partial occupancy: atom 1 is occupied to 0\.5"):
                as_crystal(disordered)
    atoms = crystal.to_ase()
    atoms.set_array("occupied", np.array([0.5, 1.0]))
    assert_same(as_crystal(atoms), crystal)


@pytest.mark.parametrize("said", [0.5, "0.5", ["1", "0.5"], [1.0], {"Cs": 0.5}, [[1], [0.5]], [10**400, 1]], ids=str)
def test_occupancies_that_are_not_those_of_the_sites_are_refused(said, crystals):
    """Refuse a number for all sites that is not 1, and what has another shape; read 1 in any form."""
    crystal = crystals["CsCl"]
    atoms, structure = crystal.to_ase(), crystal.to_jarvis().to_dict()
    atoms.info["occupancy"] = said
    for disordered in (atoms, {**structure, "occupancy": said}):
        with pytest.raises(StructureError, match=r"partial occupancy|occupancy.* is .*expected"):
            as_crystal(disordered)
    for full in (1, "1.0", ["1", 1.0], (1, 1), "1 1", [[1], [1]], None, float("nan"), "", "full"):
        assert_same(as_crystal({**structure, "occupancy": full}), crystal)
    for name, value in (("occ", 0.7), ("sof", 3), ("occupations", [[2, 0], [1, 1]])):  # may be properties
        assert_same(as_crystal({**structure, name: value}), crystal)


def test_statements_in_any_type_are_read(crystals):
    """Refuse contradictions in tuples as in lists, words for periodicity, and coordinates that may be in Angstrom."""
    crystal = crystals["CsCl"]
    structure = {**crystal.to_jarvis().to_dict(), "frac_coords": crystal.frac_coords.tolist(), "cartesian": False}
    moved = tuple(map(tuple, np.add(crystal.frac_coords, [[0.1, 0, 0], [0, 0, 0]]).tolist()))
    with pytest.raises(StructureError, match="two lists of coordinates are up to 0"):
        as_crystal({**structure, "coords": moved})
    for pbc in ("F F F", [True, False, True], "false", 0):
        with pytest.raises(StructureError, match="not periodic in three directions"):
            as_crystal({**structure, "pbc": pbc})
    with pytest.raises(StructureError, match=r"pbc is .*; expected true or false"):
        as_crystal({**structure, "pbc": [True, "no", True]})
    for pbc in ("T T T", "True", "", [None] * 3, 1, [True] * 3):
        assert_same(as_crystal({**structure, "pbc": pbc}), crystal)
    skewed = {"lattice_mat": [[4, 0, 0], [160, 4, 0], [0, 0, 4]], "elements": ["Cs"], "coords": [[1.5, 0, 0]]}
    with pytest.raises(StructureError, match="may be fractional, or in Angstrom"):
        as_crystal(skewed)


def test_a_dict_of_two_structures_or_in_another_unit_is_refused(crystals):
    core, crystal = pytest.importorskip("pymatgen.core"), crystals["CsCl"]
    jarvis = crystal.to_jarvis().to_dict()
    other = core.Structure(crystal.lattice, ["K", "Br"], crystal.frac_coords).as_dict()
    with pytest.raises(StructureError, match="holds 2 structures, by lattice, sites and by lattice_mat, elements"):
        as_crystal({**jarvis, **other})
    for name in ("length_unit", "unit_length", "cell_units"):
        with pytest.raises(StructureError, match=f"the unit is 'bohr' .{name}.; expected Angstrom"):
            as_crystal({**jarvis, name: "bohr"})
    assert_same(as_crystal({**jarvis, "length_unit": "Angstrom", "energy_unit": "Ry"}), crystal)


@pytest.mark.parametrize("number", [0, 104, 200])
def test_an_atomic_number_that_no_element_has_is_refused(number):
    with pytest.raises(StructureError, match=rf"atomic numbers are \[{number}\]; expected 1 to 103"):
        as_crystal(Crystal(4 * np.eye(3), np.zeros((1, 3)), np.array([number], dtype=np.uint8)))
