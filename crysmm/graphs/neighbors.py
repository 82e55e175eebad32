"""Which atoms are neighbours: from a crystal to its directed edges.

Every strategy searches with vesin and then works on whole arrays. Distances that differ by less than
``SHELL_TOLERANCE`` belong to one shell, so that rounding cannot change a graph. On Materials Project crystals
the gaps between successive neighbour distances leave a valley there: 0.1% of them lie between 3e-5 and 1e-4
Angstrom, while rounding makes gaps below 1e-5 and physics makes gaps above 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.errors import StructureError

SHELL_TOLERANCE = 1e-4  # Angstrom
MINIMUM_DISTANCE = 0.1  # Angstrom; two atoms nearer than this are one atom written twice
MAXIMUM_IMAGE = 127  # images are stored as int8


@dataclass(frozen=True, eq=False)
class EdgeList:
    """Directed edges of a crystal graph, sorted by destination.

    The vector of an edge is ``r = (x_destination + image - x_source) . lattice``.

    Args:
        source: ``[n_edges]`` int32.
        destination: ``[n_edges]`` int32, not decreasing.
        image: ``[n_edges, 3]`` int8, the cell of the destination relative to the source's.
    """

    source: np.ndarray
    destination: np.ndarray
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def vectors(self, crystal: Crystal) -> np.ndarray:
        """``[n_edges, 3]`` float64 bond vectors, Angstrom."""
        steps = crystal.frac_coords[self.destination] + self.image - crystal.frac_coords[self.source]
        return steps @ crystal.lattice


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Neighbours found: ``center`` has ``neighbor`` moved by ``image`` at ``distance``; sorted by both."""

    center: np.ndarray
    neighbor: np.ndarray
    image: np.ndarray
    distance: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> _Pairs:
        return _Pairs(self.center[rows], self.neighbor[rows], self.image[rows], self.distance[rows])


def find_edges(crystal: Crystal, settings: GraphSettings) -> EdgeList:
    """The edges of a crystal's graph.

    Args:
        crystal: the structure.
        settings: neighbour strategy, cutoff (Angstrom) and number of neighbours.

    Raises:
        StructureError: two atoms are nearer than ``MINIMUM_DISTANCE``.
    """
    if settings.neighbor_strategy == "cgcnn":
        pairs = _cut_to_nearest(_search(crystal, settings.cutoff), crystal, settings.max_neighbors)
        return _sorted_edges(pairs.neighbor, pairs.center, -pairs.image)
    if settings.neighbor_strategy == "radius":
        pairs = _search(crystal, settings.cutoff)
        return _sorted_edges(pairs.neighbor, pairs.center, -pairs.image)
    tolerance = 0.0 if settings.as_jarvis else SHELL_TOLERANCE
    pairs = _shell_of_nearest(crystal, settings.cutoff, settings.max_neighbors, tolerance)
    if settings.as_jarvis:
        return _both_directions_as_jarvis(pairs, settings.use_canonize)
    return _both_directions(pairs)


def _search(crystal: Crystal, cutoff: float) -> _Pairs:
    from vesin import NeighborList

    center, neighbor, image, distance = NeighborList(cutoff=cutoff + SHELL_TOLERANCE, full_list=True).compute(
        points=crystal.frac_coords @ crystal.lattice, box=crystal.lattice, periodic=True, quantities="ijSd"
    )
    if len(distance) and distance.min() < MINIMUM_DISTANCE:
        nearest = int(np.argmin(distance))
        raise StructureError(
            f"atoms {center[nearest] + 1} and {neighbor[nearest] + 1} are {distance[nearest]:.3f} Angstrom apart; "
            f"at least {MINIMUM_DISTANCE} is needed"
        )
    if len(image) and np.abs(image).max() > MAXIMUM_IMAGE:
        raise StructureError(
            f"neighbours lie {np.abs(image).max()} cells away, more than {MAXIMUM_IMAGE}: coordinates far outside "
            "the cell, or a cell much thinner than the cutoff"
        )
    order = np.lexsort((distance, center))
    return _Pairs(
        center[order].astype(np.int32), neighbor[order].astype(np.int32), image[order].astype(np.int8), distance[order]
    )


def _rank_within_center(center: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of neighbours of each atom, and the place of each pair among those of its atom."""
    counts = np.bincount(center, minlength=n_atoms)
    starts = np.cumsum(counts) - counts
    return counts, np.arange(len(center)) - starts[center]


def _shell_of_nearest(crystal: Crystal, cutoff: float, k: int, tolerance: float) -> _Pairs:
    """Every neighbour within the k-th distance of its atom, the search widened as JARVIS does it."""
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    while True:
        pairs = _search(crystal, cutoff)
        counts, rank = _rank_within_center(pairs.center, len(crystal))
        if counts.min() >= k:
            break
        cutoff = max(lengths) if cutoff < max(lengths) else 2 * cutoff
    farthest = pairs.distance[rank == k - 1]
    return pairs[pairs.distance <= farthest[pairs.center] + tolerance]


def _cut_to_nearest(pairs: _Pairs, crystal: Crystal, k: int) -> _Pairs:
    """Exactly the k nearest neighbours of each atom (fewer where the cutoff holds fewer).

    Ties are broken by (shell, atomic number, atom index, image): whole numbers, which rounding cannot change,
    and first the one that does not depend on how the atoms are listed.
    """
    new_shell = np.ones(len(pairs.center), dtype=bool)
    same_center = pairs.center[1:] == pairs.center[:-1]
    new_shell[1:] = ~same_center | (np.diff(pairs.distance) > SHELL_TOLERANCE)
    shell = np.cumsum(new_shell)
    numbers = crystal.atomic_numbers[pairs.neighbor]
    images = pairs.image.T
    order = np.lexsort((images[2], images[1], images[0], pairs.neighbor, numbers, shell))
    _, rank = _rank_within_center(pairs.center, len(crystal))
    return pairs[order[rank < k]]


def _sorted_edges(source: np.ndarray, destination: np.ndarray, image: np.ndarray) -> EdgeList:
    """Edges in one order whatever order they were found in."""
    order = np.lexsort((image[:, 2], image[:, 1], image[:, 0], source, destination))
    return EdgeList(
        source[order].astype(np.int32), destination[order].astype(np.int32), image[order].astype(np.int8)
    )


def _both_directions(pairs: _Pairs) -> EdgeList:
    """Every bond once in each direction: the pairs and their reverses, as a set."""
    forward = np.column_stack((pairs.center, pairs.neighbor, pairs.image))
    backward = np.column_stack((pairs.neighbor, pairs.center, -pairs.image))
    edges = np.unique(np.concatenate((forward, backward)), axis=0)
    return _sorted_edges(edges[:, 0], edges[:, 1], edges[:, 2:])


def _both_directions_as_jarvis(pairs: _Pairs, use_canonize: bool) -> EdgeList:
    """The list JARVIS makes: each canonical pair and its reverse.

    JARVIS brings a bond found from both of its ends to one form by sorting the two atoms, which leaves a bond
    to the atom's own image in two forms; both are kept, and both are reversed.
    """
    source, destination, image = pairs.center, pairs.neighbor, pairs.image
    if use_canonize:
        swap = destination < source
        source, destination = np.where(swap, destination, source), np.where(swap, source, destination)
        image = np.where(swap[:, None], -image, image)
    edges = np.unique(np.column_stack((source, destination, image)), axis=0)
    both = np.concatenate((edges, np.column_stack((edges[:, 1], edges[:, 0], -edges[:, 2:]))))
    return _sorted_edges(both[:, 0], both[:, 1], both[:, 2:])
