"""Groups of crystals, and positions in the periodic table."""

import numpy as np
import pytest

from crysmm.data.space_groups import find_space_group
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.report.errors import by_crystal_system, by_size, table_position

SYSTEMS = {
    "Cu": "cubic", "Fe": "cubic", "Mg": "hexagonal", "SiO2": "trigonal", "TiO2": "tetragonal", "ZrO2": "monoclinic"
}  # fmt: skip


def test_crystal_systems(crystals):
    errors = np.arange(1.0, 7.0)
    space_groups = np.array([find_space_group(crystals[formula]) for formula in SYSTEMS])
    groups = by_crystal_system(np.append(space_groups, 0), np.append(errors, 100.0))  # the last one is unknown
    assert {group.name: (group.n, group.error) for group in groups} == {
        "monoclinic": (1, 6.0), "tetragonal": (1, 5.0), "trigonal": (1, 4.0), "hexagonal": (1, 3.0), "cubic": (2, 1.5)
    }  # fmt: skip
    assert groups[0].uncertainty is None
    assert groups[-1].uncertainty == pytest.approx(0.5)  # of 1 and 2: sqrt(0.5) / sqrt(2)


def test_sizes():
    groups = by_size(np.array([1, 2, 4, 64, 65, 1000]), np.array([1.0, 3.0, 5.0, 7.0, 9.0, 13.0]))
    assert [(group.name, group.n, group.error) for group in groups] == [
        ("1 to 2", 2, 2.0), ("3 to 4", 1, 5.0), ("33 to 64", 1, 7.0), ("65 or more", 2, 11.0)
    ]  # fmt: skip


@pytest.mark.parametrize(("symbol", "row", "column"), [
    ("H", 1, 1), ("He", 1, 18), ("Be", 2, 2), ("B", 2, 13), ("Ar", 3, 18), ("Sc", 4, 3), ("Fe", 4, 8), ("I", 5, 17),
    ("Ba", 6, 2), ("La", 9, 3), ("Lu", 9, 17), ("Hf", 6, 4), ("Au", 6, 11), ("Rn", 6, 18), ("Ra", 7, 2), ("Lr", 10, 17),
])  # fmt: skip
def test_places_in_the_periodic_table(symbol, row, column):
    assert table_position(ATOMIC_NUMBERS[symbol]) == (row, column)


def test_no_two_elements_share_a_place():
    assert len({table_position(number) for number in ATOMIC_NUMBERS.values()}) == len(ATOMIC_NUMBERS)
