"""Drawings of structures against known structures, and in a browser."""

import html
import io

import numpy as np
import pytest
from matplotlib.image import imread

from crysmm.crystals.crystal import Crystal
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.report.structure import element_colors, structure_drawing, structure_view

BONDED_NEIGHBORS = {
    "Si": {"Si": 4},
    "NaCl": {"Na": 6, "Cl": 6},
    "CsCl": {"Cs": 8, "Cl": 8},
    "CdTe": {"Cd": 4, "Te": 4},
}


def positions(drawing):
    return np.array([atom[:3] for atom in drawing["atoms"]])


def symbols(drawing):
    return [drawing["elements"][kind][0] for *_, kind in drawing["atoms"]]


def half_bonds(drawing, symbol):
    """The lengths of the half bonds of each atom of an element."""
    at, ends = positions(drawing), np.array([bond[1:] for bond in drawing["bonds"]])
    atoms = np.array([bond[0] for bond in drawing["bonds"]])
    lengths = np.linalg.norm(ends - at[atoms], axis=1)
    return [lengths[atoms == place] for place, name in enumerate(symbols(drawing)) if name == symbol]


def test_atoms_on_faces_are_drawn_on_the_opposite_faces_too(crystals):
    drawing = structure_drawing(crystals["NaCl"])
    assert sorted(symbols(drawing)) == ["Cl"] * 13 + ["Na"] * 14  # the picture in every textbook
    assert len(drawing["bonds"]) == 2 * 54  # none leaves the cell
    for lengths in half_bonds(drawing, "Cl"):
        np.testing.assert_allclose(lengths, 1.41, atol=2e-3)


@pytest.mark.parametrize(("formula", "symbol", "counts", "length"), [
    ("SrTiO3", "Ti", {6}, 1.9525 / 2),
    ("CsCl", "Cl", {8}, 4.123 * 3**0.5 / 4),
    ("CdTe", "Te", {4}, 6.482 * 3**0.5 / 8),
    ("SiO2", "O", {2}, 1.61 / 2),  # to silicon in the next cell, too
    ("Mg", "Mg", {1}, 3.197 / 2),  # of twelve
])  # fmt: skip
def test_bonds_within_the_cell_go_to_the_nearest_neighbors(crystals, formula, symbol, counts, length):
    lengths = half_bonds(structure_drawing(crystals[formula]), symbol)
    assert {len(one) for one in lengths} == counts
    np.testing.assert_allclose(np.concatenate(lengths), length, atol=6e-3)


def test_distances_stay_and_c_points_up(crystal):
    drawing = structure_drawing(crystal)
    a, b, c = np.array(drawing["cell"])
    np.testing.assert_allclose([a @ b, b @ c, c @ a], (crystal.lattice @ np.roll(crystal.lattice, -1, 0).T).diagonal(),
                               atol=0.02)  # fmt: skip
    assert np.linalg.det([a, b, c]) == pytest.approx(np.linalg.det(crystal.lattice), rel=1e-3)  # not mirrored
    assert c[1] > 0
    np.testing.assert_allclose([c[0], c[2], a[2]], 0, atol=1e-3)


def test_a_cell_written_elsewhere_looks_the_same(crystals):
    quartz = crystals["SiO2"]
    moved = Crystal(quartz.lattice, quartz.frac_coords + [[2, -1, 0]] * len(quartz), quartz.atomic_numbers)
    assert structure_drawing(moved) == structure_drawing(quartz)


def test_atoms_that_coincide_have_no_bonds(crystals):
    crystal = crystals["NaCl"]
    twice = Crystal(crystal.lattice, np.zeros((8, 3)), crystal.atomic_numbers)
    assert structure_drawing(twice)["bonds"] == []


def test_large_cells_are_not_drawn(crystals):
    sites = np.array(list(np.ndindex(11, 11, 11))) / 11
    large = Crystal(33 * np.eye(3), sites, np.full(len(sites), 14, dtype=np.uint8))
    assert "1,331 atoms and is not drawn; the limit is 1,000" in structure_view(large)


def test_a_browser_draws_it(browser, tmp_path, crystals):
    from selenium.webdriver.support.ui import WebDriverWait

    page = tmp_path / "page.html"
    frame = f'<iframe srcdoc="{html.escape(structure_view(crystals["TiO2"], 300))}"></iframe>'
    page.write_text(f'<meta charset="utf-8">{frame}', "utf-8")
    browser.get(page.as_uri())
    browser.switch_to.frame(0)
    WebDriverWait(browser, 30).until(lambda _: browser.find_elements("css selector", ".structure canvas"))
    red, green, blue = imread(io.BytesIO(browser.find_element("class name", "structure").screenshot_as_png)).T[:3]
    assert ((red > 0.7) & (green < 0.2) & (blue < 0.2)).sum() > 50  # oxygen
    assert ((abs(red - blue) < 0.05) & (red > 0.4) & (red < 0.8)).sum() > 500  # titanium
    assert browser.get_log("browser") == []


def test_elements_of_one_crystal_have_distinct_colors():
    from ase.data.colors import jmol_colors

    def channels(symbols):
        colors = element_colors([ATOMIC_NUMBERS[symbol] for symbol in symbols])
        return [[int(color[place : place + 2], 16) for place in (1, 3, 5)] for color in colors]

    assert channels(["O", "Ti"]) == [np.rint(255 * jmol_colors[number]).tolist() for number in (8, 22)]
    for symbols in (["C", "V"], ["C", "Al", "V", "Ti", "Cr"], ["H", "Sc"], ["Si", "Cd"], ["Tb", "Dy"], ["Rh", "Pd"]):
        found = np.array(channels(symbols))
        apart = np.abs(found[:, None] - found).max(axis=2) + 255 * np.eye(len(found))
        assert apart.min() > 37, symbols
