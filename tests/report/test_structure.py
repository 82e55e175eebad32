"""What is drawn of a structure, against what is known of it, and whether a browser draws it."""

import html
import io

import numpy as np
import pytest
from matplotlib.image import imread

from crysmm.crystal import Crystal
from crysmm.report.structure import structure_drawing, structure_view

BONDED_NEIGHBOURS = {
    "Si": {"Si": 4},
    "NaCl": {"Na": 6, "Cl": 6},
    "CsCl": {"Cs": 8, "Cl": 8},
    "CdTe": {"Cd": 4, "Te": 4},
}


def positions(drawing):
    return np.array([atom[:3] for atom in drawing["atoms"]])


def symbols(drawing):
    return [drawing["elements"][kind][0] for *_, kind in drawing["atoms"]]


def test_atoms_on_faces_are_drawn_on_the_opposite_faces_too(crystals):
    drawing = structure_drawing(crystals["NaCl"])
    assert sorted(symbols(drawing)) == ["Cl"] * 13 + ["Na"] * 14  # the picture in every textbook
    lengths = [np.linalg.norm(positions(drawing)[i] - positions(drawing)[j]) for i, j in drawing["bonds"]]
    assert len(lengths) == 54
    np.testing.assert_allclose(lengths, 2.82, atol=2e-3)


def test_the_atom_in_the_middle_has_the_neighbours_of_its_structure(crystals):
    drawing = structure_drawing(crystals["SrTiO3"])
    middle = next(place for place, symbol in enumerate(symbols(drawing)) if symbol == "Ti")
    ends = [symbols(drawing)[i + j - middle] for i, j in drawing["bonds"] if middle in (i, j)]
    assert ends == ["O"] * 6


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


def test_cells_too_large_are_said_to_be(crystals):
    sites = np.array(list(np.ndindex(11, 11, 11))) / 11
    large = Crystal(33 * np.eye(3), sites, np.full(len(sites), 14, dtype=np.uint8))
    assert "1,331 atoms, more than the 1,000 that are drawn" in structure_view(large)


def test_a_browser_draws_it(browser, tmp_path, crystals):
    from selenium.webdriver.support.ui import WebDriverWait

    page = tmp_path / "page.html"
    page.write_text(f'<iframe srcdoc="{html.escape(structure_view(crystals["TiO2"], 300))}"></iframe>', "utf-8")
    browser.get(page.as_uri())
    browser.switch_to.frame(0)
    WebDriverWait(browser, 30).until(lambda _: browser.find_elements("css selector", ".structure canvas"))
    red, green, blue = imread(io.BytesIO(browser.find_element("class name", "structure").screenshot_as_png)).T[:3]
    assert ((red > 0.7) & (green < 0.2) & (blue < 0.2)).sum() > 50  # oxygen
    assert ((abs(red - blue) < 0.05) & (red > 0.4) & (red < 0.8)).sum() > 500  # titanium
    assert browser.get_log("browser") == []
