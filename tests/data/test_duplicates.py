import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crysmm.crystals.crystal import Crystal
from crysmm.data.duplicates import TOLERANCE, find_duplicates
from crysmm.graphs.distances import SortedDistances, sorted_distances


def changed(crystal: Crystal, kind: str) -> Crystal:
    """The same structure, written otherwise; pymatgen makes the cells."""
    random = np.random.default_rng(5)
    structure = Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords)
    if kind == "supercell":
        structure.make_supercell([[1, 1, 0], [0, 2, 0], [0, 0, 1]])
    elif kind == "niggli":
        structure = structure.get_reduced_structure()
    elif kind == "order":
        structure = Structure.from_sites([structure[i] for i in random.permutation(len(structure))])
    elif kind == "origin":
        structure.translate_sites(range(len(structure)), random.random(3))
    symbols = [site.specie.symbol for site in structure]
    lattice = np.array(structure.lattice.matrix)
    if kind == "turned":
        lattice = lattice @ np.linalg.qr(random.normal(size=(3, 3)))[0]
    return Crystal.from_arrays(lattice, structure.frac_coords, symbols)


@pytest.mark.parametrize("kind", ["supercell", "niggli", "order", "origin", "turned"])
def test_one_structure_however_it_is_written(kind: str, crystals) -> None:
    for crystal in crystals.values():
        one, other = sorted_distances(crystal), sorted_distances(changed(crystal, kind))
        np.testing.assert_allclose(other.fingerprint(), one.fingerprint(), atol=1e-5)
        assert one.difference(other) == other.difference(one) < 1e-5


def test_moved_atoms_change_distances_by_twice_at_most(crystals) -> None:
    random = np.random.default_rng(0)
    for crystal in crystals.values():
        steps = random.normal(size=crystal.frac_coords.shape)
        steps *= 1e-3 / np.linalg.norm(steps, axis=1, keepdims=True)
        coords = crystal.frac_coords + steps @ np.linalg.inv(crystal.lattice)
        moved = Crystal.from_arrays(crystal.lattice, coords, crystal.elements)
        one, other = sorted_distances(crystal), sorted_distances(moved)
        sampled = np.abs(one.fingerprint() - other.fingerprint()).max()
        assert sampled - 1e-12 <= one.difference(other) <= 2e-3 + 1e-9


def test_difference_counts_every_distance() -> None:
    """Compare two atoms that have three neighbors together, then five, and one atom with two, as by hand."""
    two, more = ([np.array(distances)] for distances in ([2.0, 2.5, 4.0], [2.0, 2.5, 4.0, 7.0, 7.9]))
    assert SortedDistances(2.0, [2], two).difference(SortedDistances(2.1, [2], more)) == pytest.approx(1.0)
    single = SortedDistances(2.0, [1], [np.array([2.2, 4.1])])  # 2.2, 2.2, 4.1, 4.1 for two atoms
    assert single.difference(SortedDistances(2.0, [2], two)) == pytest.approx(3.9)


def groups(crystals: list[Crystal]) -> list[list[int]]:
    """Groups of the same structures."""
    formulas = [crystal.formula for crystal in crystals]
    return find_duplicates(formulas, lambda some: [crystals[row] for row in some], progress=False)


def zinc_sulfide(layers: str) -> Crystal:
    """Ideal close-packed layers of ZnS: ABC is zincblende, AB wurtzite; all have the same nearest neighbors."""
    side, height = 3.823, 3.823 * np.sqrt(2 / 3)
    lattice = [[side, 0, 0], [-side / 2, side * np.sqrt(3) / 2, 0], [0, 0, height * len(layers)]]
    place = {"A": (0, 0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}
    zinc = [[*place[layer], number / len(layers)] for number, layer in enumerate(layers)]
    sulfur = [[x, y, z + 0.75 / len(layers)] for x, y, z in zinc]
    return Crystal.from_arrays(lattice, zinc + sulfur, ["Zn"] * len(zinc) + ["S"] * len(zinc))


def test_groups_of_rows(crystals) -> None:
    """Two stackings, two decorations of one lattice, and one structure at two volumes are different structures."""
    rocksalt = crystals["NaCl"]
    layered = Crystal.from_arrays(rocksalt.lattice, rocksalt.frac_coords, ["Na", "Cl"] * 4)
    swollen = Crystal.from_arrays(1.01 * rocksalt.lattice, rocksalt.frac_coords, rocksalt.elements)
    same_volume = Crystal.from_arrays((1 + 1e-4) * rocksalt.lattice, rocksalt.frac_coords, rocksalt.elements)
    rows = [zinc_sulfide("ABC"), rocksalt, zinc_sulfide("AB"), layered, swollen, changed(rocksalt, "turned")]
    rows += [same_volume, zinc_sulfide("ABCABC"), zinc_sulfide("ABAC"), crystals["Si"]]
    assert TOLERANCE > 1e-4 * 8
    assert groups(rows) == [[0, 7], [1, 5, 6]]


def copper(kinds: str) -> Crystal:
    """Close-packed layers; one between two alike is h, one between two unlike is c. All h is hcp, all c is fcc."""
    side, height = 2.556, 2.556 * np.sqrt(2 / 3)
    layers = [0, 1]
    for kind in 6 * kinds:
        layers.append(layers[-2] if kind == "h" else 3 - layers[-1] - layers[-2])
    assert layers[-2:] == [0, 1]  # the stacking repeats
    n_layers = len(layers) - 2
    lattice = [[side, 0, 0], [-side / 2, side * np.sqrt(3) / 2, 0], [0, 0, height * n_layers]]
    sites = [[layer / 3, 2 * layer / 3, place / n_layers] for place, layer in enumerate(layers[:-2])]
    return Crystal.from_arrays(lattice, sites, ["Cu"] * n_layers)


def test_structures_that_differ_in_few_distances_are_two() -> None:
    """Stackings that differ from the fifth shell on, and a crystal with one atom of 108 moved by 0.37 Angstrom."""
    fcc = Structure.from_spacegroup("Fm-3m", Lattice.cubic(2.556 * np.sqrt(2)), ["Cu"], [[0, 0, 0]]) * 3
    moved = fcc.copy()
    moved.translate_sites([50], [0.2, 0.2, 0.24], frac_coords=False)
    cells = [Crystal.from_arrays(cell.lattice.matrix, cell.frac_coords, ["Cu"] * len(cell)) for cell in (fcc, moved)]
    rows = [copper("c"), copper("hc"), copper("hhcc"), copper("h"), *cells]
    assert groups(rows) == [[0, 4]]
    fingerprints = [sorted_distances(row).fingerprint() for row in rows]
    for one, other in ((1, 2), (4, 5)):  # which a sample of the distances does not tell apart
        assert np.abs(fingerprints[one] - fingerprints[other]).max() < TOLERANCE
