"""Which changes of a crystal leave it the same structure."""

import numpy as np
import pytest

from crysmm.crystals.crystal import Crystal
from data_prep.structure_index import NEARLY_SAME, SAME, StructureIndex, pack_keys, structure_key, unpack_keys

SHEAR = np.array([[1, 1, 0], [0, 1, 2], [0, 0, 1]])


def supercell(crystal, n=2):
    """``n`` cells along the first lattice vector."""
    repeated = np.concatenate([crystal.frac_coords + np.array([copy, 0, 0]) for copy in range(n)]) / [n, 1, 1]
    return Crystal(np.diag([n, 1, 1]) @ crystal.lattice, repeated, np.tile(crystal.atomic_numbers, n))


def another_cell(crystal):
    """Other lattice vectors of the same lattice."""
    return Crystal(SHEAR @ crystal.lattice, crystal.frac_coords @ np.linalg.inv(SHEAR), crystal.atomic_numbers)


def rotated(crystal):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    return Crystal(crystal.lattice @ turn, crystal.frac_coords, crystal.atomic_numbers)


def shifted(crystal):
    return Crystal(crystal.lattice, crystal.frac_coords + np.array([0.3, -0.1, 0.77]), crystal.atomic_numbers)


def reordered(crystal):
    order = np.random.default_rng(2).permutation(len(crystal))
    return Crystal(crystal.lattice, crystal.frac_coords[order], crystal.atomic_numbers[order])


def scaled(crystal, factor=1 + 1e-4):
    return Crystal(crystal.lattice * factor, crystal.frac_coords, crystal.atomic_numbers)


def rattled(crystal, length=0.003):
    noise = np.random.default_rng(3).uniform(-length, length, crystal.frac_coords.shape)
    moved = crystal.frac_coords + noise @ np.linalg.inv(crystal.lattice)
    return Crystal(crystal.lattice, moved, crystal.atomic_numbers)


def rounded(crystal):
    return Crystal(crystal.lattice.round(4), crystal.frac_coords.round(4), crystal.atomic_numbers)


def stretched(crystal, strain=0.03):
    return Crystal(crystal.lattice * [1, 1, 1 + strain], crystal.frac_coords, crystal.atomic_numbers)


def is_same(first, second):
    index = StructureIndex()
    index.add(structure_key(first))
    return structure_key(second) in index


@pytest.mark.parametrize(
    "change", [supercell, another_cell, rotated, shifted, reordered, scaled, rattled, rounded], ids=lambda f: f.__name__
)
def test_copies_are_found(crystal, change):
    assert is_same(crystal, change(crystal))
    assert is_same(change(crystal), crystal)


def test_the_index_of_test_sets_takes_more_for_the_same(crystal):
    """Half a percent: what two relaxations of one material differ by."""
    found = {}
    for tolerance in (SAME, NEARLY_SAME):
        index = StructureIndex(tolerance)
        index.add(structure_key(crystal))
        found[tolerance] = structure_key(scaled(crystal, 1.005)) in index
    assert found == {SAME: False, NEARLY_SAME: True}


def test_changes_together_are_found(crystal):
    assert is_same(crystal, rattled(scaled(shifted(rotated(another_cell(supercell(crystal)))))))


def test_strained_crystals_are_others(crystal):
    assert not is_same(crystal, stretched(crystal))
    assert not is_same(crystal, stretched(crystal, -0.03))
    assert not is_same(crystal, scaled(crystal, 1.03))
    assert not is_same(crystal, scaled(crystal, 1.01))


def test_a_moved_atom_makes_another_structure(crystals):
    """Rutile with its one free coordinate changed by 0.01: two bond lengths by 0.06 A, the volume not at all."""
    rutile, u = crystals["TiO2"], 0.315
    oxygen = [[u, u, 0], [1 - u, 1 - u, 0], [0.5 - u, 0.5 + u, 0.5], [0.5 + u, 0.5 - u, 0.5]]
    moved = np.concatenate((rutile.frac_coords[:2], oxygen))
    assert np.abs(moved - rutile.frac_coords).max() == pytest.approx(0.01)
    assert not is_same(rutile, Crystal(rutile.lattice, moved, rutile.atomic_numbers))


def layers(stacking):
    """Zinc sulfide as a stacking of close-packed double layers with the same bond lengths."""
    a, height = 3.823, 3.823 * np.sqrt(2 / 3)
    lattice = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, height * len(stacking)]])
    place = {"A": [0, 0], "B": [1 / 3, 2 / 3], "C": [2 / 3, 1 / 3]}
    zinc = [[*place[letter], number / len(stacking)] for number, letter in enumerate(stacking)]
    sulfur = [[x, y, z + 0.75 / len(stacking)] for x, y, z in zinc]
    return Crystal.from_arrays(lattice, zinc + sulfur, ["Zn"] * len(zinc) + ["S"] * len(zinc))


def test_polymorphs_are_others():
    """Wurtzite, zinc blende and 4H have the same composition, density, bonds and angles; stackings repeat."""
    stackings = ["AB", "ABC", "ABCB"]
    for first in stackings:
        for second in stackings:
            assert is_same(layers(first), layers(second)) == (first == second)
    assert is_same(layers("ABC"), layers("CABCAB"))


def test_exchanged_elements_make_another_structure(crystals):
    rutile = crystals["TiO2"]
    numbers = np.where(rutile.atomic_numbers == 8, 16, rutile.atomic_numbers).astype(np.uint8)
    assert not is_same(rutile, Crystal(rutile.lattice, rutile.frac_coords, numbers))
    cesium = crystals["CsCl"]
    assert is_same(cesium, Crystal(cesium.lattice, cesium.frac_coords, cesium.atomic_numbers[::-1].copy()))


def test_keys_come_back_from_their_arrays(crystals):
    keys = [structure_key(crystal) for crystal in crystals.values()]
    again = list(unpack_keys(pack_keys(keys)))
    assert [key.formula for key in again] == [key.formula for key in keys]
    assert all(np.array_equal(one.lengths, other.lengths) for one, other in zip(again, keys, strict=True))
    assert list(unpack_keys(pack_keys([]))) == []
