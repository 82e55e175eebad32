import io
import re

import numpy as np
import pytest

from crysmm.crystals.conversion import as_crystal
from crysmm.errors import StructureError
from tests.crystals.same import assert_same

CUBE = 4.0 * np.eye(3)


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


def test_statements_beside_a_structure_are_compared(crystals):
    crystal = crystals["NaCl"]
    jarvis = crystal.to_jarvis().to_dict()
    refused = {
        "not periodic": {"periodic": False},
        "partial occupancy": {"props": {"occupancy": [1] * (len(crystal) - 1) + [0.5]}},
    }
    for reason, statement in refused.items():
        with pytest.raises(StructureError, match=reason):
            as_crystal({**jarvis, **statement})
    assert_same(as_crystal({**jarvis, "unit": "a.u.", "periodic": True, "props": ["a"]}), crystal)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ({"units": {"length": "bohr", "energy": "Ha"}}, "the unit is {'energy': 'Ha', 'length': 'bohr'} (units)"),
        ({"units": "bohr"}, "the unit is 'bohr'"),
        ({"unit": ["nm", "eV"]}, "the unit is "),
        ({"lattice_mat_units": "a.u."}, "the unit is 'a.u.'"),
        ({"coords_are_cartesian": True}, "taken for fractional, and coords_are_cartesian is True"),
        ({"is_fractional": False}, "taken for fractional, and is_fractional is False"),
        ({"coords_type": "Cartesian"}, "taken for fractional, and coords_type is 'Cartesian'"),
    ],
)
def test_units_and_kinds_of_coordinates_that_contradict_a_dict(crystals, statement, reason):
    crystal = crystals["NaCl"]
    jarvis = {**crystal.to_jarvis().to_dict(), "coords": crystal.frac_coords.tolist(), "cartesian": False}
    agreeing = {"units": {"energy": "a.u.", "length": "Angstrom"}, "is_cartesian": "false", "coords_type": "direct"}
    assert_same(as_crystal({**jarvis, **agreeing, "direct": True, "fractional": 0.5}), crystal)
    with pytest.raises(StructureError, match=re.escape(reason)):
        as_crystal({**jarvis, **statement})


def test_one_site_of_pymatgen_that_contradicts_itself(crystals):
    core, crystal = pytest.importorskip("pymatgen.core"), crystals["NaCl"]
    content = core.Structure(crystal.lattice, crystal.elements, crystal.frac_coords).as_dict(verbosity=1)
    for site in content["sites"][1:]:
        del site["xyz"]
    assert_same(as_crystal(content), crystal)
    content["sites"][0]["xyz"] = (np.array(content["sites"][0]["xyz"]) + 0.7).tolist()
    with pytest.raises(StructureError, match="two lists of coordinates"):
        as_crystal(content)
