from collections import Counter
from itertools import product

import numpy as np
import pytest

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError
from crysmm.graphs import neighbors
from crysmm.graphs.neighbors import find_edges
from crysmm.testing import supercell

K_NEAREST = GraphSettings(neighbor_strategy="k-nearest")
CGCNN = GraphSettings(neighbor_strategy="cgcnn")
RADIUS = GraphSettings(neighbor_strategy="radius", cutoff=5.0)


def edge_tuples(edges):
    """(source, destination, image) of every edge, as Python numbers."""
    return [
        (source, destination, *image)
        for source, destination, image in zip(
            edges.source.tolist(), edges.destination.tolist(), edges.image.tolist(), strict=True
        )
    ]


def neighbors_by_hand(crystal, cutoff, reach=6):
    """For each atom all (distance, atomic number, atom, image) within the cutoff, nearest first."""
    found = []
    images = np.array(list(product(range(-reach, reach + 1), repeat=3)))
    for center in range(len(crystal)):
        steps = crystal.frac_coords[None] + images[:, None] - crystal.frac_coords[center]
        distances = np.linalg.norm(steps @ crystal.lattice, axis=2)
        rows = np.argwhere((distances < cutoff) & (distances > 1e-8))
        found.append(
            sorted(
                (round(distances[row, atom], 3), int(crystal.atomic_numbers[atom]), int(atom), *images[row].tolist())
                for row, atom in rows
            )
        )
    return found


def with_reverses(pairs):
    return set(pairs) | {(second, first, -x, -y, -z) for first, second, x, y, z in pairs}


def displaced(crystal, size, seed=0):
    """Every atom moved at random by about ``size`` Angstrom."""
    noise = np.random.default_rng(seed).normal(size=crystal.frac_coords.shape) * size
    return Crystal(
        crystal.lattice, crystal.frac_coords + noise @ np.linalg.inv(crystal.lattice), crystal.atomic_numbers
    )


def rotated(crystal):
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    return Crystal(crystal.lattice @ rotation, crystal.frac_coords, crystal.atomic_numbers)


def translated(crystal):
    return Crystal(crystal.lattice, crystal.frac_coords + np.array([0.137, 0.411, -0.291]), crystal.atomic_numbers)


def permuted(crystal):
    order = np.random.default_rng(2).permutation(len(crystal))
    return Crystal(crystal.lattice, crystal.frac_coords[order], crystal.atomic_numbers[order])


def other_images(crystal):
    steps = np.random.default_rng(3).integers(-2, 3, size=(len(crystal), 3))
    return Crystal(crystal.lattice, crystal.frac_coords + steps, crystal.atomic_numbers)


def geometry(crystal, settings):
    """Sorted bond lengths, and sorted cosines of all pairs of bonds that follow each other."""
    edges = find_edges(crystal, settings)
    vectors = edges.vectors(crystal)
    lengths = np.linalg.norm(vectors, axis=1)
    directions = vectors / lengths[:, None]
    follows = edges.destination[:, None] == edges.source[None]
    return np.sort(lengths), np.sort((-directions @ directions.T)[follows])


def assert_same_geometry(crystal, changed, settings):
    for found, expected in zip(geometry(changed, settings), geometry(crystal, settings), strict=True):
        assert len(found) == len(expected)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def jarvis_edges(crystal, use_canonize):
    """The directed edges of JARVIS' builder, each as often as it lists it."""
    from jarvis.core.graphs import nearest_neighbor_edges

    edges = Counter()
    bonds = nearest_neighbor_edges(crystal.to_jarvis(), use_canonize=use_canonize)
    for (source, destination), images in bonds.items():
        for image in images:
            x, y, z = (round(step) for step in image)
            edges[source, int(destination), x, y, z] += 1
            edges[int(destination), source, -x, -y, -z] += 1
    return edges


def test_k_nearest_equals_a_list_by_hand(crystal):
    expected = []
    for center, found in enumerate(neighbors_by_hand(crystal, cutoff=8.0)):
        shell = [row for row in found if row[0] <= found[11][0]]
        expected += [(center, atom, *image) for _, _, atom, *image in shell]
    edges = edge_tuples(find_edges(crystal, K_NEAREST))
    assert len(edges) == len(set(edges))
    assert set(edges) == with_reverses(expected)


def test_radius_equals_a_list_by_hand(crystal):
    expected = {
        (atom, center, *(-step for step in image))
        for center, found in enumerate(neighbors_by_hand(crystal, cutoff=5.0))
        for _, _, atom, *image in found
    }
    edges = edge_tuples(find_edges(crystal, RADIUS))
    assert len(edges) == len(set(edges))
    assert set(edges) == expected


@pytest.mark.parametrize("k", [1, 5, 12, 20])
def test_cgcnn_equals_a_list_by_hand_ties_broken_by_element_atom_and_image(crystal, k):
    expected = {
        (atom, center, *(-step for step in image))
        for center, found in enumerate(neighbors_by_hand(crystal, cutoff=8.0))
        for _, _, atom, *image in found[:k]
    }
    edges = find_edges(crystal, GraphSettings(neighbor_strategy="cgcnn", max_neighbors=k))
    assert set(edge_tuples(edges)) == expected
    assert np.bincount(edges.destination).tolist() == [k] * len(crystal)


def test_at_tolerance_zero_k_nearest_has_jarvis_edges(crystal, dgl, monkeypatch):
    # atoms moved a little, so that no tie is left to rounding
    crystal = displaced(crystal, size=0.02)
    monkeypatch.setattr(neighbors, "SHELL_TOLERANCE", 0.0)
    assert set(edge_tuples(find_edges(crystal, K_NEAREST))) == set(jarvis_edges(crystal, use_canonize=True))


def test_k_nearest_holds_every_edge_of_jarvis(crystal, dgl):
    assert set(edge_tuples(find_edges(crystal, K_NEAREST))) >= set(jarvis_edges(crystal, use_canonize=True))


@pytest.mark.parametrize("use_canonize", [True, False])
@pytest.mark.parametrize("displacement", [0.0, 1e-9, 0.02])
def test_as_jarvis_lists_edges_as_often_as_jarvis(crystal, dgl, use_canonize, displacement):
    crystal = displaced(crystal, displacement)
    settings = GraphSettings(as_jarvis=True, use_canonize=use_canonize)
    assert Counter(edge_tuples(find_edges(crystal, settings))) == jarvis_edges(crystal, use_canonize)


@pytest.mark.parametrize("settings", [K_NEAREST, RADIUS], ids=lambda settings: settings.neighbor_strategy)
def test_every_edge_has_its_reverse(crystal, settings):
    edges = edge_tuples(find_edges(crystal, settings))
    assert set(edges) == with_reverses(edges)


@pytest.mark.parametrize("settings", [K_NEAREST, CGCNN, RADIUS], ids=lambda settings: settings.neighbor_strategy)
def test_edges_are_sorted(crystal, settings):
    edges = [(destination, source) for source, destination, *_ in edge_tuples(find_edges(crystal, settings))]
    assert edges == sorted(edges)


@pytest.mark.parametrize("change", [rotated, translated, permuted, other_images])
@pytest.mark.parametrize("settings", [K_NEAREST, RADIUS], ids=lambda settings: settings.neighbor_strategy)
def test_graph_does_not_depend_on_the_description(crystal, settings, change):
    assert_same_geometry(crystal, change(crystal), settings)


@pytest.mark.parametrize("change", [rotated, translated, permuted, other_images])
def test_cgcnn_graph_does_not_depend_on_the_description_where_no_tie_is_cut(crystals, change):
    cases = [
        (crystal, k)
        for crystal in crystals.values()
        for k in range(1, 16)
        if all(found[k][0] - found[k - 1][0] > 0.002 for found in neighbors_by_hand(crystal, 8.0, reach=4))
    ]
    assert len(cases) >= 20
    for crystal, k in cases:
        settings = GraphSettings(neighbor_strategy="cgcnn", max_neighbors=k)
        assert_same_geometry(crystal, change(crystal), settings)


@pytest.mark.parametrize("settings", [K_NEAREST, CGCNN, RADIUS], ids=lambda settings: settings.neighbor_strategy)
def test_rounding_does_not_change_the_edges(crystal, settings):
    expected = edge_tuples(find_edges(crystal, settings))
    for seed in range(3):
        assert edge_tuples(find_edges(displaced(crystal, 1e-6, seed), settings)) == expected


@pytest.mark.parametrize("settings", [K_NEAREST, CGCNN, RADIUS], ids=lambda settings: settings.neighbor_strategy)
def test_files_with_five_decimals_give_the_same_edges(crystal, settings):
    """In cells of 10 to 20 Angstrom, 5 decimals separate equal distances by 1e-4 Angstrom and more."""
    large = supercell(crystal, (4, 4, 3))
    rounded = Crystal(large.lattice.round(5), large.frac_coords.round(5), large.atomic_numbers)
    assert edge_tuples(find_edges(rounded, settings)) == edge_tuples(find_edges(large, settings))


@pytest.mark.parametrize("settings", [K_NEAREST, RADIUS], ids=lambda settings: settings.neighbor_strategy)
def test_supercell_has_the_graph_of_the_cell(crystal, settings):
    lengths, cosines = geometry(crystal, settings)
    many_lengths, many_cosines = geometry(supercell(crystal, (1, 2, 2)), settings)
    np.testing.assert_allclose(many_lengths, np.repeat(lengths, 4), atol=1e-9)
    np.testing.assert_allclose(many_cosines, np.repeat(cosines, 4), atol=1e-9)


def test_coordination_numbers(crystals):
    # 12 in fcc, 8 + 6 in bcc, 4 + 12 in diamond, 6 + 6 in magnesium whose c/a is not the ideal one
    for name, degree in {"Cu": 12, "Fe": 14, "Si": 16, "Mg": 12}.items():
        edges = find_edges(crystals[name], K_NEAREST)
        assert np.bincount(edges.destination).tolist() == [degree] * len(crystals[name])


def lone_atom(size):
    return Crystal.from_arrays(size * np.eye(3), [[0.1, 0.2, 0.3]], ["Ar"])


@pytest.mark.parametrize("strategy", ["cgcnn", "radius"])
def test_lone_atom_has_no_edges(strategy):
    edges = find_edges(lone_atom(20.0), GraphSettings(neighbor_strategy=strategy, cutoff=5.0))
    assert len(edges) == 0
    assert edges.vectors(lone_atom(20.0)).shape == (0, 3)


@pytest.mark.parametrize("as_jarvis", [False, True])
def test_k_nearest_widens_its_search(as_jarvis):
    # simple cubic: 6 neighbors at 20 Angstrom, 12 at 28.28
    edges = find_edges(lone_atom(20.0), GraphSettings(as_jarvis=as_jarvis))
    lengths = np.linalg.norm(edges.vectors(lone_atom(20.0)), axis=1)
    expected = np.repeat([20.0, 20.0 * np.sqrt(2)], [6, 12])
    np.testing.assert_allclose(np.sort(lengths), np.repeat(expected, 2) if as_jarvis else expected)


def test_cgcnn_has_fewer_edges_where_the_cutoff_holds_fewer(crystals):
    edges = find_edges(crystals["Si"], GraphSettings(neighbor_strategy="cgcnn", cutoff=3.0))
    assert np.bincount(edges.destination).tolist() == [4, 4]


def test_alignn_torch_has_an_edge_from_each_atom_to_its_nearest(crystals):
    # of quartz' oxygens, the nearest six are not each other's
    crystal, settings = (
        displaced(crystals["SiO2"], 0.02),
        GraphSettings(neighbor_strategy="alignn-torch", max_neighbors=6),
    )
    expected = {
        (center, atom, *image)
        for center, found in enumerate(neighbors_by_hand(crystal, 8.0, reach=3))
        for _, _, atom, *image in found[:6]
    }
    edges = edge_tuples(find_edges(crystal, settings))
    assert len(edges) == len(expected) == 6 * len(crystal)
    assert set(edges) == expected
    assert with_reverses(edges) != set(edges)


def test_some_atoms_with_and_some_without_neighbors():
    # a nitrogen molecule and an argon atom far from it
    crystal = Crystal.from_arrays(20 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5], [0.055, 0, 0]], ["N", "Ar", "N"])
    for strategy in ("cgcnn", "radius"):
        edges = find_edges(crystal, GraphSettings(neighbor_strategy=strategy, cutoff=5.0))
        assert edge_tuples(edges) == [(2, 0, 0, 0, 0), (0, 2, 0, 0, 0)]


@pytest.mark.parametrize("distance", [0.0, 0.05])
def test_atoms_too_near_are_refused(distance):
    crystal = Crystal.from_arrays(5 * np.eye(3), [[0.9, 0, 0], [0.9 + distance / 5 - 1, 0, 0]], ["Li", "F"])
    with pytest.raises(StructureError, match=f"atoms [12] and [12] are {distance:.3f} Angstrom apart"):
        find_edges(crystal, K_NEAREST)


@pytest.mark.parametrize("settings", [K_NEAREST, RADIUS])
@pytest.mark.parametrize(
    "lattice",
    [
        np.diag([1e6, 4, 4]),
        np.diag([4, 1e4, 1e4]),
        [[0.5, 0, 0], [1e5, 0.5, 0], [0, 0, 4]],
        [[1.9, -1.1, 3.6], [1e5, 2.2, 3.6], [-1.9, -1.1, 3.6]],
    ],
)
def test_cells_that_cannot_be_searched_are_refused(lattice, settings):
    """The flat ones end the process in vesin 0.6.2 (a division by zero), the oblique ones take minutes."""
    iron = Crystal(np.array(lattice, dtype=float), np.zeros((1, 3)), np.array([26], dtype=np.uint8))
    with pytest.raises(StructureError, match=r"cell is too (flat or long|thin or oblique) for a search"):
        find_edges(iron, settings)


@pytest.mark.parametrize("lattice", [np.diag([2000, 4, 4]), np.diag([1.2, 4, 4]), [[3, 0, 0], [60, 3, 0], [0, 0, 3]]])
def test_unusual_cells_are_searched(lattice):
    crystal = Crystal.from_arrays(lattice, [[0, 0, 0]], ["Fe"])
    assert len(find_edges(crystal, RADIUS)) > 0


def test_too_many_atoms_are_refused():
    many = Crystal(400 * np.eye(3), np.zeros((700_001, 3)), np.ones(700_001, dtype=np.uint8))
    with pytest.raises(StructureError, match="700001 atoms; at most 700000"):
        find_edges(many, RADIUS)


def test_keys_hold_the_last_atoms_and_images():
    """Two hydrogens, the last of as many as are possible, with the farthest image."""
    last = neighbors.MAXIMUM_ATOMS - 1
    atoms = Crystal(np.eye(3), np.zeros((0, 3)), np.ones(neighbors.MAXIMUM_ATOMS, dtype=np.uint8))
    image = np.array([[127, -127, 127], [-127, 127, -127]])
    keys = neighbors._keys(np.array([last, last]), np.array([last, last - 1]), image, atoms)
    assert (keys > 0).all()
    edges = neighbors._edges_of_keys(keys, atoms)
    assert edge_tuples(edges) == [(last, last, 127, -127, 127), (last - 1, last, -127, 127, -127)]


def test_images_too_far_are_refused(crystals):
    far = crystals["CsCl"].frac_coords + np.array([[0, 0, 0], [200, 0, 0]])
    crystal = Crystal(crystals["CsCl"].lattice, far, crystals["CsCl"].atomic_numbers)
    with pytest.raises(StructureError, match=r"20\d cells away"):
        find_edges(crystal, K_NEAREST)
