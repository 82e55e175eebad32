"""Symmetrized crystals, their shells, and the tables of the script on crystals whose symmetry is known."""

import sys

import numpy as np
import pytest

from benchmarks import rounding
from crysmm.crystals.crystal import Crystal
from crysmm.io.table import crystal_row
from data_prep.files import write_jsonl

THIRDS = [[0, 0, 0], [0.66667, 0.33333, 0.66667], [0.33333, 0.66667, 0.33333]]


def hexagonal(length, c, coords, elements):
    """Return a crystal with a hexagonal cell as a file with 5 decimals gives it."""
    lattice = np.array([[length, 0, 0], [-length / 2, length * np.sqrt(0.75), 0], [0, 0, c]])
    return Crystal.from_arrays(lattice.round(5), coords, elements)


def test_symmetrizing_restores_thirds_and_the_angle_of_120_degrees():
    arsenic = hexagonal(30.123457, 41.2, THIRDS, ["As"] * 3)
    symmetrized, orbits = rounding.symmetrize(arsenic, 1e-3)
    steps = symmetrized.frac_coords - symmetrized.frac_coords[0]
    np.testing.assert_allclose(steps * 3, [[0, 0, 0], [2, 1, 2], [1, 2, 1]], atol=1e-9)
    first, second, third = symmetrized.lattice
    assert first @ second == pytest.approx(-0.5 * first @ first, rel=1e-12)
    assert second @ second == pytest.approx(first @ first, rel=1e-12)
    assert third @ first == pytest.approx(0, abs=1e-9)
    assert orbits.tolist() == [0, 0, 0]


def test_shells_end_with_that_of_the_twelfth_neighbor(crystals):
    for name, sizes in {"Cu": [12], "Fe": [8, 6], "Si": [4, 12]}.items():
        found, gaps = rounding.nearest_shells(crystals[name])
        assert found == [sizes] * len(crystals[name])
        assert len(gaps) == 12 * len(crystals[name])


@pytest.fixture
def run(crystals, tmp_path, monkeypatch, capsys):
    """The script on rounded quartz, three times as large, and iron; its rows by title and strategy."""
    quartz = crystals["SiO2"]
    quartz = rounding.rounded(Crystal(3 * quartz.lattice, quartz.frac_coords, quartz.atomic_numbers))
    rows = [crystal_row(name, {}, crystal) for name, crystal in {"quartz": quartz, "Fe": crystals["Fe"]}.items()]
    write_jsonl(rows, tmp_path / "crystals.jsonl")
    for module, names in {
        rounding.neighbors: ("SHELL_TOLERANCE",),
        rounding.equivalence: ("SHELL_TOLERANCE", "LONGEST_CHAIN", "ANGLE_TOLERANCE"),
    }.items():
        for name in names:  # restores after the test what the script replaces
            monkeypatch.setattr(module, name, getattr(module, name))

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["rounding", str(tmp_path / "crystals.jsonl"), *options])
        rounding.main()
        printed = capsys.readouterr().out
        assert "2 crystals, 10 atoms in 3 orbits" in printed
        cells = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("|")]
        return {tuple(title.strip() for title in line[:-3]): [value.strip() for value in line[-3:]] for line in cells}

    return run


def test_tolerances_below_rounding_tell_equivalent_atoms_apart(run):
    narrow = run("--tolerances", "1e-6", "1e-6")
    given, rounded, symmetrized = map(int, narrow["classes of atoms", "k-nearest"])
    assert given > 6
    assert rounded > 6
    assert symmetrized == 3
    assert int(narrow["atoms whose shells differ from symmetrized", ""][0]) >= 6


def test_tolerances_above_rounding_do_not(run):
    wide = run("--tolerances", "5e-4", "3e-3")
    assert wide["classes of atoms", "k-nearest"] == ["3", "3", "3"]
    assert wide["crystals with more classes than orbits", "k-nearest"] == ["0"] * 3
    assert wide["graphs that differ from symmetrized", "cgcnn"] == ["0", "0", "0"]
    assert wide["atoms whose shell of the 12th neighbor holds more", ""][0] == "1"  # 14 neighbors of iron
