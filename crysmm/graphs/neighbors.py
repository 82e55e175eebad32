"""Neighbor search: from a crystal to the directed edges of its graph.

Every strategy searches with vesin and then works on whole arrays. Distances that differ by less than
``SHELL_TOLERANCE`` belong to one shell, so that coordinates rounded to 5 decimals give the graph of the exact ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.elements import covalent_radii
from crysmm.errors import StructureError
from crysmm.graphs.order import stable_order

# Angstrom. Coordinates rounded to 5 decimals (a third is 0.33333) separate equal distances by up to 2e-4, and by up to
# 4e-4 in large cells. Other gaps are spread evenly, 0.1% to 0.3% of all for each 1e-4: a wider tolerance joins more
# shells that differ (docs/guide/graphs.md).
SHELL_TOLERANCE = 5e-4
SHORTEST = 0.5  # Angstrom; the least distance of any two atoms, hydrogen included
CLOSEST_CONTACT = 0.45  # of the sum of covalent radii; the least ratio in 85,723 crystals of JARVIS and MP is 0.49
MAXIMUM_IMAGE = 127  # images are stored as int8
MAXIMUM_ATOMS = 700_000  # the most for which an edge key fits into 63 bits, see _keys
MAXIMUM_CANDIDATES = 1_000_000  # grid points searched around an atom; 50 Angstrom of a dense metal hold 0.7 million
IMAGE_PLACES = np.array([1 << 16, 1 << 8, 1], dtype=np.int64)  # weights of an image's three numbers in a key
SEARCH_CELLS = 100_000  # vesin coarsens larger grids, and divides by zero if a side then has no cell


@dataclass(frozen=True, eq=False)
class EdgeList:
    """Directed edges of a crystal graph, sorted by destination.

    The vector of an edge is ``r = (x_destination + image - x_source) . lattice``.

    Args:
        source: Source atoms, ``[n_edges]`` int32.
        destination: Destination atoms in ascending order, ``[n_edges]`` int32.
        image: Cell of the destination relative to the source's, ``[n_edges, 3]`` int8.
    """

    source: np.ndarray
    destination: np.ndarray
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def vectors(self, crystal: Crystal) -> np.ndarray:
        """Return the bond vectors, ``[n_edges, 3]`` float64, Angstrom."""
        steps = crystal.frac_coords[self.destination] + self.image - crystal.frac_coords[self.source]
        vectors: np.ndarray = steps @ crystal.lattice
        return vectors


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Unordered search results: ``center`` has ``neighbor``, shifted by ``image`` cells, at ``distance``."""

    center: np.ndarray
    neighbor: np.ndarray
    image: np.ndarray
    distance: np.ndarray

    def take(self, index: np.ndarray) -> _Pairs:
        """Select pairs by integer index; ``ndarray.take`` needs a third of the time of fancy indexing."""
        arrays = (self.center, self.neighbor, self.image, self.distance)
        return _Pairs(*(array.take(index, axis=0) for array in arrays))


def find_edges(crystal: Crystal, settings: GraphSettings) -> EdgeList:
    """Find the edges of a crystal's graph.

    - ``k-nearest``: all neighbors in the shell of the k-th, and the reverse of every bond (Choudhary and
      DeCost 2021, as in JARVIS). The cutoff is widened where an atom has fewer than k, so it decides nothing.
    - ``cgcnn``: from each of the k nearest neighbors to the atom (Xie and Grossman 2018), fewer where the
      cutoff holds fewer; see :func:`_cut_to_nearest` for ties.
    - ``radius``: from every neighbor within the cutoff.
    - ``alignn-torch``: the bonds of ``cgcnn``, from the atom to its k nearest instead (ALIGNN's builder without DGL).

    Args:
        crystal: Crystal to search.
        settings: Neighbor strategy, cutoff (Angstrom) and number of neighbors.

    Raises:
        StructureError: Two atoms are nearer than ``CLOSEST_CONTACT`` allows, a neighbor lies more than
            ``MAXIMUM_IMAGE`` cells away, there are more than ``MAXIMUM_ATOMS`` atoms, or the cell is too thin, too
            oblique or too flat to be searched.
    """
    if len(crystal) > MAXIMUM_ATOMS:
        raise StructureError(f"the structure has {len(crystal)} atoms; at most {MAXIMUM_ATOMS} are possible")
    strategy, k, cutoff = settings.neighbor_strategy, settings.max_neighbors, settings.cutoff
    if settings.as_jarvis:
        return _edges_as_jarvis(crystal, settings)
    if strategy == "radius":
        pairs = _search(crystal, cutoff)
        return _edges_of_keys(np.sort(_keys(pairs.center, pairs.neighbor, -pairs.image, crystal)), crystal)
    # A sphere with 2 k atoms on average is enough for every atom in 1,999 of 2,000 crystals. The result does not
    # depend on this guess, but searching the whole cutoff takes four times as long.
    guess = min(math.cbrt(2 * k * crystal.volume / len(crystal) * 3 / (4 * math.pi)), cutoff)
    if strategy == "k-nearest":
        pairs = _search_until(k, chain((guess,), _widening(crystal, cutoff)), crystal)
        keys = np.sort(_keys_both_ways(_shell_of_nearest(pairs, crystal, k, SHELL_TOLERANCE), crystal))
        # a bond found from both ends is there twice in each direction; np.unique would take five times as long
        return _edges_of_keys(keys[np.diff(keys, prepend=-1) > 0], crystal)
    pairs = _cut_to_nearest(_search_until(k, (guess, cutoff), crystal), crystal, k)
    if strategy == "cgcnn":
        keys = _keys(pairs.center, pairs.neighbor, -pairs.image, crystal)
    else:
        keys = _keys(pairs.neighbor, pairs.center, pairs.image, crystal)
    return _edges_of_keys(np.sort(keys), crystal)


def _search(crystal: Crystal, cutoff: float) -> _Pairs:
    """Find every pair within ``cutoff + SHELL_TOLERANCE``, once from each of its ends."""
    center, neighbor, image, distance = _all_pairs(crystal, cutoff + SHELL_TOLERANCE)
    close = _close(crystal, center, neighbor, distance)
    if len(close):
        nearest = close[distance[close].argmin()]
        raise StructureError(too_close(crystal, center[nearest], neighbor[nearest], distance[nearest]))
    if len(image) and np.abs(image).max() > MAXIMUM_IMAGE:
        raise StructureError(
            f"neighbors lie {np.abs(image).max()} cells away, more than {MAXIMUM_IMAGE}: coordinates far outside "
            "the cell, or a cell much thinner than the cutoff"
        )
    return _Pairs(center.astype(np.int64), neighbor.astype(np.int64), image, distance)


def _all_pairs(crystal: Crystal, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the centers, neighbors, images and distances of all pairs within a radius (Angstrom).

    Raises:
        StructureError: The shape of the cell would make vesin search endlessly, or crash.
    """
    from vesin import NeighborList

    # vesin sorts atoms into grid cells of at least the radius, and looks at all cells that the sphere touches
    heights = crystal.heights
    grid = [max(height // radius, 1) for height in heights]
    around = [  # extent of the searched grid cells, in cells of the crystal
        (2 * math.ceil(radius * count / height) + 1) / count for count, height in zip(grid, heights, strict=True)
    ]
    too_thin = len(crystal) * math.prod(around) > MAXIMUM_CANDIDATES
    coarser = math.cbrt(max(1.0, math.prod(grid) / SEARCH_CELLS))
    if too_thin or (coarser > 1 and min(grid) < 2 * coarser):  # twice, because vesin rounds down side by side
        shown = " x ".join(f"{height:.3g}" for height in heights)
        shape = "thin or oblique" if too_thin else "flat or long"
        raise StructureError(
            f"the cell is too {shape} for a search of {radius:.3g} Angstrom: its opposite faces are {shown} Angstrom "
            "apart"
        )
    points = crystal.frac_coords @ crystal.lattice
    found = NeighborList(cutoff=radius, full_list=True).compute(points, crystal.lattice, True, "ijSd")
    center, neighbor, image, distance = found
    return center, neighbor, image, distance


def _close(crystal: Crystal, center: np.ndarray, neighbor: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the index of the pairs that are closer than chemistry allows."""
    radii = covalent_radii()[crystal.atomic_numbers]
    # one comparison with the largest limit leaves few pairs or none, whose own limits are then computed
    possible = np.flatnonzero(distance < max(SHORTEST, 2 * CLOSEST_CONTACT * radii.max()))
    limits = np.maximum(SHORTEST, CLOSEST_CONTACT * (radii[center[possible]] + radii[neighbor[possible]]))
    close: np.ndarray = possible[distance[possible] < limits]
    return close


def too_close(crystal: Crystal, first: int, second: int, distance: float, sites: str = "") -> str:
    """Return the reason to refuse a crystal with two such atoms; ``sites`` is inserted after their numbers."""
    elements = [crystal.elements[atom] for atom in (first, second)]
    limit = max(SHORTEST, CLOSEST_CONTACT * covalent_radii()[crystal.atomic_numbers[[first, second]]].sum())
    return (
        f"atoms {first + 1} and {second + 1}{sites} are {distance:.3f} Angstrom apart; at least {limit:.2f} is needed "
        f"between {elements[0]} and {elements[1]} (by their covalent radii)"
    )


def close_pairs(crystal: Crystal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the atoms that are closer than chemistry allows.

    Returns:
        First atom, second atom and distance (Angstrom) of each such pair, ``[n_pairs]`` each; a pair is listed from
        both ends.
    """
    radius = max(SHORTEST, 2 * CLOSEST_CONTACT * covalent_radii()[crystal.atomic_numbers].max())
    center, neighbor, _, distance = _all_pairs(crystal, radius)
    close = _close(crystal, center, neighbor, distance)
    return center[close].astype(np.int64), neighbor[close].astype(np.int64), distance[close]


def _widening(crystal: Crystal, cutoff: float) -> Iterator[float]:
    """Yield the cutoffs that JARVIS tries in turn."""
    # JARVIS rounds its lattice to 5 decimals and its lengths to 6; with as_jarvis the last digit decides
    longest = np.linalg.norm(np.around(crystal.lattice, 5), axis=1).max().round(6)
    while True:
        yield cutoff
        cutoff = longest if cutoff < longest else 2 * cutoff


def _search_until(k: int, radii: Iterable[float], crystal: Crystal) -> _Pairs:
    """Return the pairs within the first radius that holds k neighbors of every atom, or within the last radius."""
    for radius in radii:
        pairs = _search(crystal, radius)
        # the search reaches farther by a tolerance, for shells; only neighbors within the radius itself count
        if np.bincount(pairs.center[pairs.distance <= radius], minlength=len(crystal)).min() >= k:
            break
    return pairs


def _nearest_first(pairs: _Pairs, crystal: Crystal) -> np.ndarray:
    """Return the order of the pairs by center, then by distance."""
    order = np.argsort(pairs.distance)
    return order[stable_order(pairs.center[order], len(crystal))]  # which keeps the order by distance


def _shell_of_nearest(pairs: _Pairs, crystal: Crystal, k: int, tolerance: float) -> _Pairs:
    """Select every neighbor within the k-th distance of its center plus a tolerance (Angstrom)."""
    order = _nearest_first(pairs, crystal)
    counts = np.bincount(pairs.center, minlength=len(crystal))
    farthest = pairs.distance[order[np.cumsum(counts) - counts + k - 1]]
    return pairs.take(np.flatnonzero(pairs.distance <= farthest[pairs.center] + tolerance))


def _cut_to_nearest(pairs: _Pairs, crystal: Crystal, k: int) -> _Pairs:
    """Select exactly the k nearest neighbors of each atom (fewer where the cutoff holds fewer).

    Ties are broken by (shell, atomic number, atom index, image): integers, which rounding cannot change, beginning
    with the one that does not depend on the order of the atoms.
    """
    pairs = pairs.take(_nearest_first(pairs, crystal))
    # shells are numbered over all atoms, so the shell number orders the pairs by center, too
    new_shell = np.ones(len(pairs.center), dtype=bool)
    new_shell[1:] = (np.diff(pairs.center) > 0) | (np.diff(pairs.distance) > SHELL_TOLERANCE)
    numbers = crystal.atomic_numbers[pairs.neighbor]
    order = np.lexsort((_keys(pairs.center, pairs.neighbor, pairs.image, crystal), numbers, np.cumsum(new_shell)))
    counts = np.bincount(pairs.center, minlength=len(crystal))
    rank_within_center = np.arange(len(order)) - (np.cumsum(counts) - counts)[pairs.center]
    return pairs.take(order[rank_within_center < k])


def _keys(first: np.ndarray, second: np.ndarray, image: np.ndarray, crystal: Crystal) -> np.ndarray:
    """Return one int64 for each (first atom, second atom, image), in the same order as these.

    One column is sorted much faster than five. The image takes 24 bits, which leaves room for ``MAXIMUM_ATOMS`` atoms.
    """
    # each image number is shifted by 128 to be positive; one product encodes all three
    keys: np.ndarray = (first * len(crystal) + second << 24) + (image @ IMAGE_PLACES + 128 * IMAGE_PLACES.sum())
    return keys


def _edges_of_keys(keys: np.ndarray, crystal: Crystal) -> EdgeList:
    """Decode the edges from sorted keys of (destination, source, image)."""
    destination, source = np.divmod(keys >> 24, len(crystal))
    image = np.stack((keys >> 16 & 255, keys >> 8 & 255, keys & 255), axis=1) - 128
    return EdgeList(source.astype(np.int32), destination.astype(np.int32), image.astype(np.int8))


def _keys_both_ways(pairs: _Pairs, crystal: Crystal) -> np.ndarray:
    """Return the keys of the edges from center to neighbor, and those of their reverses."""
    forward = _keys(pairs.neighbor, pairs.center, pairs.image, crystal)
    backward = _keys(pairs.center, pairs.neighbor, -pairs.image, crystal)
    return np.concatenate((forward, backward))


def _edges_as_jarvis(crystal: Crystal, settings: GraphSettings) -> EdgeList:
    """Return the edge list of JARVIS: each canonical pair and its reverse.

    JARVIS brings a bond found from both of its ends to one form by sorting the two atoms, which leaves a bond
    to the atom's own image in two forms; both are kept, and both are reversed. Without ``use_canonize`` every
    mutual bond is listed twice.
    """
    k = settings.max_neighbors
    # JARVIS compares distances exactly, so that rounding decides in every second crystal which neighbors of a shell
    # are bonds. Its atoms lie in a lattice rounded to 5 decimals, its images in the given one: the distances are
    # computed in the same way, to the last bit.
    positions = crystal.frac_coords @ np.around(crystal.lattice, 5)
    for cutoff in _widening(crystal, settings.cutoff):
        found = _search(crystal, cutoff)
        steps = found.image.astype(float) @ crystal.lattice + positions[found.neighbor] - positions[found.center]
        distance = np.sum(steps**2, axis=-1) ** 0.5
        pairs = _Pairs(found.center, found.neighbor, found.image, distance).take(np.flatnonzero(distance <= cutoff))
        if np.bincount(pairs.center, minlength=len(crystal)).min() >= k:
            break
    pairs = _shell_of_nearest(pairs, crystal, k, tolerance=0.0)
    if settings.use_canonize:
        swap = pairs.neighbor < pairs.center
        first, second = np.minimum(pairs.center, pairs.neighbor), np.maximum(pairs.center, pairs.neighbor)
        image = np.where(swap[:, None], -pairs.image, pairs.image)
        _, once = np.unique(_keys(first, second, image, crystal), return_index=True)
        pairs = _Pairs(first, second, image, pairs.distance).take(once)
    return _edges_of_keys(np.sort(_keys_both_ways(pairs, crystal)), crystal)
