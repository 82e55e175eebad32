import contextlib

import numpy as np
import pytest

from crysmm.config import GraphSettings
from crysmm.crystals.conversion import as_crystal
from crysmm.crystals.crystal import LARGEST_SKEW, Crystal, to_fractional
from crysmm.errors import StructureError
from crysmm.graphs.neighbors import find_edges
from tests.crystals.same import assert_same

CUBE = 4.0 * np.eye(3)


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


def test_fractional_coordinates_of_a_skew_cell(crystals):
    crystal = crystals["CuO"]
    np.testing.assert_allclose(
        to_fractional(crystal.lattice, crystal.frac_coords @ crystal.lattice), crystal.frac_coords, atol=1e-12
    )


@pytest.mark.parametrize("symbol", ["T", "d", "D1", np.array(["D", "D"])])
def test_what_is_not_deuterium(symbol):
    with pytest.raises(StructureError, match="unknown element"):
        Crystal.from_arrays(CUBE, [[0, 0, 0]], [symbol])


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
    """Keep a cell of which rounding leaves too little to reduce; the search refuses it."""
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


@pytest.mark.parametrize("number", [0, 104, 200])
def test_an_atomic_number_that_no_element_has_is_refused(number):
    with pytest.raises(StructureError, match=rf"atomic numbers are \[{number}\]; expected 1 to 103"):
        as_crystal(Crystal(4 * np.eye(3), np.zeros((1, 3)), np.array([number], dtype=np.uint8)))
