"""Equivalence classes of atoms and bonds against symmetry, published orbits, and a comparison of multisets."""

from collections import Counter

import numpy as np
import pytest

from crysmm.config import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.graphs import equivalence
from crysmm.graphs.equivalence import find_equivalence
from crysmm.graphs.neighbors import find_edges
from crysmm.io.inputs import open_source
from crysmm.testing import supercell

SETTINGS = GraphSettings()
ORBITS = {"Cu": 1, "NaCl": 2, "SrTiO3": 3, "TiO2": 2, "SiO2": 2, "ZrO2": 3, "CuO": 2}  # Wyckoff positions occupied


def classes(crystal, settings=SETTINGS):
    edges = find_edges(crystal, settings)
    return edges, find_equivalence(crystal, edges, settings)


def partition(labels):
    """Return the members of each class, whatever the classes are called."""
    members = {}
    for place, label in enumerate(np.asarray(labels).tolist()):
        members.setdefault(label, []).append(place)
    return sorted(members.values())


def refined_by_hand(crystal, edges, digits=3):
    """Refine classes of atoms and edges by multisets of rounded lengths and cosines, until none splits."""
    vectors = edges.vectors(crystal)
    lengths = np.linalg.norm(vectors, axis=1)
    source, destination = edges.source.tolist(), edges.destination.tolist()
    numbers = crystal.atomic_numbers.tolist()
    rounded = np.round(lengths, digits)
    colors = [(numbers[s], numbers[d], length) for s, d, length in zip(source, destination, rounded, strict=True)]
    while True:
        names = {color: name for name, color in enumerate(sorted(set(colors)))}
        named = [names[color] for color in colors]
        atoms = [
            (number, *(tuple(sorted(named[e] for e in range(len(named)) if ends[e] == atom))
                       for ends in (source, destination)))
            for atom, number in enumerate(numbers)
        ]  # fmt: skip
        kinds = {kind: name for name, kind in enumerate(sorted(set(atoms)))}
        new = []
        for out, start in enumerate(source):
            angles = Counter(
                (named[e], round(float(vectors[e] @ vectors[out] / lengths[e] / lengths[out]), digits) + 0.0)
                for e in range(len(named))
                if destination[e] == start
            )
            new.append((named[out], kinds[atoms[start]], kinds[atoms[destination[out]]], tuple(sorted(angles.items()))))
        if len(set(new)) == len(names):
            return partition([kinds[atom] for atom in atoms]), partition(named)
        colors = new


def test_classes_of_atoms_are_the_orbits(crystals):
    assert {name: len(set(classes(crystals[name])[1].representative)) for name in ORBITS} == ORBITS


@pytest.mark.parametrize("settings", [SETTINGS, GraphSettings(neighbor_strategy="cgcnn"),
                                      GraphSettings(neighbor_strategy="alignn-torch"),
                                      GraphSettings(neighbor_strategy="radius", cutoff=4.0)])  # fmt: skip
def test_classes_are_those_of_multisets(crystal, settings):
    edges, found = classes(crystal, settings)
    assert (partition(found.representative), partition(found.edge_class)) == refined_by_hand(crystal, edges)


def test_symmetry_makes_atoms_equivalent_in_real_crystals(request):
    """Each orbit that moyo finds is in one class, and the representative of a class is its first atom."""
    moyopy = pytest.importorskip("moyopy")
    n_orbits = n_classes = 0
    for row in open_source(request.config.rootpath / "examples/sample_data").rows():
        crystal = row.read().crystal
        _, found = classes(crystal)
        cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist())
        orbits = moyopy.MoyoDataset(cell, symprec=1e-5).orbits
        for orbit in partition(orbits):
            assert len(set(found.representative[orbit])) == 1
        assert (found.representative[found.representative] == found.representative).all()
        assert all(members[0] == found.representative[members[0]] for members in partition(found.representative))
        n_orbits, n_classes = n_orbits + len(set(orbits)), n_classes + len(set(found.representative))
    assert 0.8 * n_orbits < n_classes <= n_orbits  # a network cannot tell apart some atoms that symmetry can


@pytest.mark.parametrize("repeats", [(1, 1, 1), (4, 4, 3)])
def test_rounded_coordinates_make_no_difference(crystal, repeats):
    exact = supercell(crystal, repeats)
    rounded = Crystal(exact.lattice.round(5), exact.frac_coords.round(5), exact.atomic_numbers)
    for expected, found in zip(vars(classes(exact)[1]).values(), vars(classes(rounded)[1]).values(), strict=True):
        assert partition(expected) == partition(found)


def test_a_displaced_atom_has_no_equivalent(crystals):
    quartz = crystals["SiO2"]
    moved = quartz.frac_coords.copy()
    moved[4] += 0.002
    edges, found = classes(Crystal(quartz.lattice, moved, quartz.atomic_numbers))
    assert found.representative.tolist() == list(range(len(quartz)))
    assert len(set(found.edge_class)) == len(edges)


def test_a_wave_of_small_steps_makes_no_atoms_equivalent():
    """In a wave of displaced cubic layers, each bond length differs from the next by less than the tolerance."""
    n_layers = 400
    layers = np.arange(n_layers)
    moved = layers + 0.02 * np.sin(2 * np.pi * layers / n_layers)
    coords = np.stack([moved / n_layers, 0 * moved, 0 * moved], axis=1)
    crystal = Crystal.from_arrays(np.diag([3.0 * n_layers, 3, 3]), coords, ["Po"] * n_layers)
    edges, found = classes(crystal, GraphSettings(max_neighbors=6))
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1)
    for kind in range(int(found.edge_class.max()) + 1):
        assert np.ptp(lengths[found.edge_class == kind]) <= equivalence.LONGEST_CHAIN


def test_supercells_have_the_classes_of_the_cell(crystal):
    edges, of_cell = classes(crystal)
    larger_edges, of_larger = classes(supercell(crystal, (2, 1, 2)))
    assert len(larger_edges) == 4 * len(edges)
    assert len(set(of_larger.representative)) == len(set(of_cell.representative))
    assert len(set(of_larger.edge_class)) == len(set(of_cell.edge_class))


@pytest.mark.parametrize("changes", [{"as_jarvis": True}, {"triplet_cutoff": 3.0}])
def test_incomplete_line_graphs_have_no_classes(crystals, changes):
    edges, found = classes(crystals["SiO2"], SETTINGS.model_copy(update=changes))
    assert found.representative.tolist() == list(range(9))
    assert found.edge_class.tolist() == list(range(len(edges)))


def test_crystals_without_bonds_and_too_many_pairs(crystals, monkeypatch):
    far = Crystal.from_arrays(20 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], ["He", "He"])
    edges, found = classes(far, GraphSettings(neighbor_strategy="radius", cutoff=5.0))
    assert (len(edges), found.representative.tolist()) == (0, [0, 1])
    monkeypatch.setattr(equivalence, "LARGEST_SEARCH", 100)
    edges, found = classes(crystals["Cu"])
    assert len(set(found.edge_class)) == len(edges)
