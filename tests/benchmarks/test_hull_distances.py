"""Hulls of a toy system whose distances are known."""

import pytest

from benchmarks.hull_distances import ENERGY, distances, per_atom, per_formula, print_ratios, print_stable

ROWS = [  # energies per atom; the hull runs from Al over AlNi, at -1.0, to Ni
    {"elements": ["Al"], ENERGY: 0.0, "ehull": 0.0},
    {"elements": ["Ni"], ENERGY: 0.0, "ehull": 0.0},
    {"elements": ["Al", "Ni"], ENERGY: -1.0, "ehull": 0.0},
    {"elements": ["Al", "Al", "Ni", "Ni"], ENERGY: -0.6, "ehull": 0.4},
    {"elements": ["Al", "Al", "Al", "Ni"], ENERGY: -0.2, "ehull": 0.3},
]
NAME = frozenset(["Al", "Ni"])
SYSTEMS = {frozenset(["Al"]): ROWS[:1], frozenset(["Ni"]): ROWS[1:2], NAME: ROWS[2:]}


def test_distances_from_the_hull():
    """Compare with hulls by hand: per formula unit AlNi is at -1.0 / 2, Al3Ni at -0.2 / 4 and its hull at -0.25."""
    own, given = zip(*distances(SYSTEMS, NAME, per_atom), strict=True)
    assert own == pytest.approx([0, 0.4, 0.3])
    assert given == (0.0, 0.4, 0.3)
    assert [pair[0] for pair in distances(SYSTEMS, NAME, per_formula)] == pytest.approx([0, 0.2, 0.2])


def test_what_is_printed(capsys, monkeypatch):
    """Print a ratio of 1 for a right column, whatever the number of atoms in a formula unit."""
    monkeypatch.setattr("benchmarks.hull_distances.SIZES", (2,))
    print_ratios(SYSTEMS)
    assert capsys.readouterr().out.splitlines()[1] == "2 | 1 | 1.000 | 100% | 0%"
    print_stable(SYSTEMS, [{"elements": ["Ni", "Al"], "e_above_hull": 0.0}, {"elements": ["O"], "e_above_hull": 0.0}])
    assert "1 compositions on the reference's hull: median ehull 0.00 eV/atom, 100%" in capsys.readouterr().out
