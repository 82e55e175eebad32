"""Crystals made from real ones."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from crysmm.io.inputs import open_source
from data_prep import synthetic
from data_prep.synthetic import GROUPS, LARGEST_STRAIN, synthetic_crystals

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture(scope="module")
def bases():
    return [row.read().crystal for row in islice(open_source(SAMPLE_DATA).rows(), 40)]


def test_cells_are_strained_and_elements_stay_in_their_groups(bases):
    group_of = {symbol: group for group in GROUPS for symbol in group.split()}
    substituted = 0
    for number, crystal in enumerate(synthetic_crystals(bases, 120)):
        base = bases[number % len(bases)]
        strain = np.linalg.solve(base.lattice, crystal.lattice) - np.eye(3)
        np.testing.assert_allclose(strain, strain.T, atol=1e-12)
        assert 0 < np.abs(strain).max() <= LARGEST_STRAIN
        assert np.array_equal(crystal.frac_coords, base.frac_coords)
        new_of: dict[str, set[str]] = {}
        for old, new in zip(base.elements, crystal.elements, strict=True):
            assert old == new or group_of[old] == group_of[new]
            new_of.setdefault(old, set()).add(new)
        assert all(len(new) == 1 for new in new_of.values()), "atoms of one element became different ones"
        substituted += base.elements != crystal.elements
    assert 30 < substituted < 110


def test_a_crystal_depends_on_its_number_alone(bases):
    few, many = list(synthetic_crystals(bases, 3)), list(synthetic_crystals(bases, 50))
    for first, second in zip(few, many, strict=False):
        assert np.array_equal(first.lattice, second.lattice)
        assert np.array_equal(first.atomic_numbers, second.atomic_numbers)
    assert not np.array_equal(many[0].lattice, many[40].lattice), "the same base twice gives the same crystal"


def test_command(tmp_path):
    output = tmp_path / "made.jsonl.gz"
    command = [sys.executable, "-m", synthetic.__name__, "--input", SAMPLE_DATA, "--count", "250", "--output", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert "250 crystals" in done.stdout
    rows = [row.read() for row in open_source(output).rows()]
    assert len({row.id for row in rows}) == 250
    for row in rows:
        assert row.targets[0] == pytest.approx(row.crystal.volume / len(row.crystal))
    assert "exists" in subprocess.run(list(map(str, command)), capture_output=True, text=True).stderr


def test_groups_name_no_element_twice():
    symbols = " ".join(GROUPS).split()
    assert len(symbols) == len(set(symbols))
