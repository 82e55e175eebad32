"""Crystals of every size, and the line of the table."""

import numpy as np
import pytest

from benchmarks import cells
from crysmm.config import GraphSettings
from crysmm.data.batch import collate_crystals


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_supercell_is_copper(repeats):
    crystal = cells.supercell(repeats)
    assert len(crystal) == repeats**3
    assert crystal.volume / len(crystal) == pytest.approx(3.615**3 / 4)
    batch = collate_crystals([crystal], GraphSettings())
    assert len(batch.bond_vectors) == 12 * len(crystal)
    np.testing.assert_allclose(np.linalg.norm(batch.bond_vectors, axis=1), 3.615 / np.sqrt(2), rtol=0.1)
    merged = collate_crystals([crystal], GraphSettings(), merge=True)
    assert len(merged.bond_vectors) == len(batch.bond_vectors)  # no two atoms are alike


def test_line_fits_the_heading():
    figures = {"atoms": 8, "triplets": 1152, "build": 0.001, "step": 0.5, "peak": 0.6, "batches": 2}
    line = cells.line(dict.fromkeys(("cgcnn", "alignn", "many"), figures), many=5)
    assert line == "| 8 | 1,152 | 1.00 | 500 | 0.60 | 0.50 | 0.60 | 2 | 0.100 | 0.60 |"
    assert line.count("|") == cells.HEADING.count("|")
