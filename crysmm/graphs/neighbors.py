"""Which atoms are neighbours: from a crystal to its directed edges.

Every strategy searches with vesin and then works on whole arrays. Distances that differ by less than
``SHELL_TOLERANCE`` belong to one shell, so that rounding cannot change a graph. On Materials Project crystals
the gaps between successive neighbour distances leave a valley there: 0.1% of them lie between 3e-5 and 1e-4
Angstrom, while rounding makes gaps below 1e-5 and physics makes gaps above 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.elements import covalent_radii
from crysmm.errors import StructureError

SHELL_TOLERANCE = 1e-4  # Angstrom
SHORTEST = 0.5  # Angstrom; no two atoms are closer, hydrogen's among them
CLOSEST = 0.45  # of the sum of covalent radii: 85,723 crystals of JARVIS and the Materials Project begin at 0.49
MAXIMUM_IMAGE = 127  # images are stored as int8
MAXIMUM_ATOMS = 700_000  # what the keys of edges hold, see _keys
MAXIMUM_CANDIDATES = 1_000_000  # places looked at around an atom; 50 Angstrom of a dense metal hold 0.7 million
IMAGE_PLACES = np.array([1 << 16, 1 << 8, 1], dtype=np.int64)  # of its three numbers in a key
SEARCH_CELLS = 100_000  # vesin coarsens its grid beyond, and divides by zero where a side of it then has none


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
        vectors: np.ndarray = steps @ crystal.lattice
        return vectors


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Neighbours found, in no order: ``center`` has ``neighbor``, moved by ``image`` cells, at ``distance``."""

    center: np.ndarray
    neighbor: np.ndarray
    image: np.ndarray
    distance: np.ndarray

    def take(self, places: np.ndarray) -> _Pairs:
        """Those at some places, which are whole numbers: a third of the time of indexing."""
        arrays = (self.center, self.neighbor, self.image, self.distance)
        return _Pairs(*(array.take(places, axis=0) for array in arrays))


def find_edges(crystal: Crystal, settings: GraphSettings) -> EdgeList:
    """The edges of a crystal's graph.

    - ``k-nearest``: all neighbours in the shell of the k-th, and the reverse of every bond (Choudhary and
      DeCost 2021, as in JARVIS). The cutoff is widened where an atom has fewer than k, so it decides nothing.
    - ``cgcnn``: from each of the k nearest neighbours to the atom (Xie and Grossman 2018), fewer where the
      cutoff holds fewer; see :func:`_cut_to_nearest` for ties.
    - ``radius``: from every neighbour within the cutoff.
    - ``alignn-torch``: the bonds of ``cgcnn``, from the atom to its k nearest instead (ALIGNN's builder without DGL).

    Args:
        crystal: the structure.
        settings: neighbour strategy, cutoff (Angstrom) and number of neighbours.

    Raises:
        StructureError: two atoms are nearer than ``CLOSEST`` allows, a neighbour lies more than
            ``MAXIMUM_IMAGE`` cells away, there are more than ``MAXIMUM_ATOMS`` atoms, or the cell is too thin, too
            oblique or too flat to be searched.
    """
    if len(crystal) > MAXIMUM_ATOMS:
        raise StructureError(f"the structure has {len(crystal)} atoms; at most {MAXIMUM_ATOMS} are possible")
    k, cutoff = settings.max_neighbors, settings.cutoff
    if settings.neighbor_strategy == "radius":
        return _edges_into_centers(_search(crystal, cutoff), crystal)
    first_guess = min(_radius_of_nearest(crystal, k), cutoff)
    if settings.neighbor_strategy in ("cgcnn", "alignn-torch"):
        pairs = _cut_to_nearest(_search_until(k, (first_guess, cutoff), crystal), crystal, k)
        directed = _edges_into_centers if settings.neighbor_strategy == "cgcnn" else _edges_out_of_centers
        return directed(pairs, crystal)
    if settings.as_jarvis:
        return _edges_as_jarvis(crystal, settings)
    pairs = _search_until(k, chain((first_guess,), _widening(crystal, cutoff)), crystal)
    return _both_directions(_shell_of_nearest(pairs, crystal, k, SHELL_TOLERANCE), crystal)


def _search(crystal: Crystal, cutoff: float) -> _Pairs:
    """Every pair within ``cutoff + SHELL_TOLERANCE``, found from both of its ends."""
    center, neighbor, image, distance = _compute(crystal, cutoff + SHELL_TOLERANCE)
    close = _are_close(crystal, center, neighbor, distance)
    if len(close):
        nearest = close[distance[close].argmin()]
        raise StructureError(too_close(crystal, center[nearest], neighbor[nearest], distance[nearest]))
    if len(image) and np.abs(image).max() > MAXIMUM_IMAGE:
        raise StructureError(
            f"neighbours lie {np.abs(image).max()} cells away, more than {MAXIMUM_IMAGE}: coordinates far outside "
            "the cell, or a cell much thinner than the cutoff"
        )
    return _Pairs(center.astype(np.int64), neighbor.astype(np.int64), image, distance)


def _compute(crystal: Crystal, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centers, neighbors, images and distances of all pairs within a radius (Angstrom)."""
    from vesin import NeighborList

    _refuse_shape(crystal, radius)
    points = crystal.frac_coords @ crystal.lattice
    found = NeighborList(cutoff=radius, full_list=True).compute(points, crystal.lattice, True, "ijSd")
    center, neighbor, image, distance = found
    return center, neighbor, image, distance


def _are_close(crystal: Crystal, center: np.ndarray, neighbor: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Places of the pairs that are closer than chemistry allows."""
    radii = covalent_radii()[crystal.atomic_numbers]
    possible = np.flatnonzero(distance < max(SHORTEST, 2 * CLOSEST * radii.max()))
    limits = np.maximum(SHORTEST, CLOSEST * (radii[center[possible]] + radii[neighbor[possible]]))
    close: np.ndarray = possible[distance[possible] < limits]
    return close


def too_close(crystal: Crystal, first: int, second: int, distance: float, sites: str = "") -> str:
    """The reason to refuse a crystal with two atoms so near; ``sites`` says more of which they are."""
    elements = [crystal.elements[atom] for atom in (first, second)]
    limit = max(SHORTEST, CLOSEST * covalent_radii()[crystal.atomic_numbers[[first, second]]].sum())
    return (
        f"atoms {first + 1} and {second + 1}{sites} are {distance:.3f} Angstrom apart; at least {limit:.2f} is needed "
        f"between {elements[0]} and {elements[1]} (by their covalent radii)"
    )


def close_pairs(crystal: Crystal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms that are closer than chemistry allows.

    Returns:
        Two atoms and their distance in Angstrom of each such pair; ``[n_pairs]`` each, from both ends.
    """
    radius = max(SHORTEST, 2 * CLOSEST * covalent_radii()[crystal.atomic_numbers].max())
    center, neighbor, _, distance = _compute(crystal, radius)
    close = _are_close(crystal, center, neighbor, distance)
    return center[close].astype(np.int64), neighbor[close].astype(np.int64), distance[close]


def _refuse_shape(crystal: Crystal, cutoff: float) -> None:
    """Refuse a cell whose shape makes the search endless, or ends the process.

    Raises:
        StructureError: with the heights of the cell.
    """
    heights = crystal.heights
    cells = [max(height // cutoff, 1) for height in heights]
    around = [  # of the grid's cells, in cells of the crystal
        (2 * math.ceil(cutoff * count / height) + 1) / count for count, height in zip(cells, heights, strict=True)
    ]
    too_thin = len(crystal) * math.prod(around) > MAXIMUM_CANDIDATES
    coarser = math.cbrt(max(1.0, math.prod(cells) / SEARCH_CELLS))
    if too_thin or (coarser > 1 and min(cells) < 2 * coarser):  # twice: vesin rounds down, one side after another
        shown = " x ".join(f"{height:.3g}" for height in heights)
        shape = "thin or oblique" if too_thin else "flat or long"
        raise StructureError(
            f"the cell is too {shape} for a search of {cutoff:.3g} Angstrom: its opposite faces are {shown} Angstrom "
            "apart"
        )


def _radius_of_nearest(crystal: Crystal, k: int) -> float:
    """Radius of a sphere that holds 2 k atoms on average: in 1,999 of 2,000 crystals enough around every atom.

    What is found does not depend on it; searching the whole cutoff takes four times as long.
    """
    return math.cbrt(2 * k * crystal.volume / len(crystal) * 3 / (4 * math.pi))


def _widening(crystal: Crystal, cutoff: float) -> Iterator[float]:
    """The cutoffs JARVIS tries, one after another (its lattice is rounded, and so are its lengths)."""
    longest = np.linalg.norm(np.around(crystal.lattice, 5), axis=1).max().round(6)
    while True:
        yield cutoff
        cutoff = longest if cutoff < longest else 2 * cutoff


def _search_until(k: int, radii: Iterable[float], crystal: Crystal) -> _Pairs:
    """Pairs of the first radius that holds k neighbours of every atom, or of the last radius."""
    for radius in radii:
        pairs = _search(crystal, radius)
        if np.bincount(pairs.center[pairs.distance <= radius], minlength=len(crystal)).min() >= k:
            break
    return pairs


def _nearest_first(pairs: _Pairs, crystal: Crystal) -> np.ndarray:
    """The order of the pairs by atom, and of each atom's by distance."""
    order = np.argsort(pairs.distance)
    center = pairs.center[order].astype(np.min_scalar_type(len(crystal)))  # of 16 bits: sorted by counting
    return order[np.argsort(center, kind="stable")]


def _rank_within_center(center: np.ndarray, n_atoms: int) -> np.ndarray:
    """The place of each pair among those of its atom; ``center`` is sorted."""
    counts = np.bincount(center, minlength=n_atoms)
    starts = np.cumsum(counts) - counts
    rank: np.ndarray = np.arange(len(center)) - starts[center]
    return rank


def _shell_of_nearest(pairs: _Pairs, crystal: Crystal, k: int, tolerance: float) -> _Pairs:
    """Every neighbour within the k-th distance of its atom plus a tolerance (Angstrom)."""
    order = _nearest_first(pairs, crystal)
    counts = np.bincount(pairs.center, minlength=len(crystal))
    farthest = pairs.distance[order[np.cumsum(counts) - counts + k - 1]]
    return pairs.take(np.flatnonzero(pairs.distance <= farthest[pairs.center] + tolerance))


def _cut_to_nearest(pairs: _Pairs, crystal: Crystal, k: int) -> _Pairs:
    """Exactly the k nearest neighbours of each atom (fewer where the cutoff holds fewer).

    Ties are broken by (shell, atomic number, atom index, image): whole numbers, which rounding cannot change,
    and first the one that does not depend on how the atoms are listed.
    """
    pairs = pairs.take(_nearest_first(pairs, crystal))
    new_shell = np.ones(len(pairs.center), dtype=bool)
    new_shell[1:] = (np.diff(pairs.center) > 0) | (np.diff(pairs.distance) > SHELL_TOLERANCE)
    numbers = crystal.atomic_numbers[pairs.neighbor]
    order = np.lexsort((_keys(pairs.center, pairs.neighbor, pairs.image, crystal), numbers, np.cumsum(new_shell)))
    return pairs.take(order[_rank_within_center(pairs.center, len(crystal)) < k])


def _keys(first: np.ndarray, second: np.ndarray, image: np.ndarray, crystal: Crystal) -> np.ndarray:
    """One int64 for two atoms and an image, ordered as they are: sorted much faster than five columns.

    24 bits hold the image, so ``MAXIMUM_ATOMS`` atoms fit.
    """
    keys: np.ndarray = (first * len(crystal) + second << 24) + (image @ IMAGE_PLACES + 128 * IMAGE_PLACES.sum())
    return keys


def _edges_of_keys(keys: np.ndarray, crystal: Crystal) -> EdgeList:
    """The edges of sorted keys of (destination, source, image)."""
    destination, source = np.divmod(keys >> 24, len(crystal))
    image = np.stack((keys >> 16 & 255, keys >> 8 & 255, keys & 255), axis=1) - 128
    return EdgeList(source.astype(np.int32), destination.astype(np.int32), image.astype(np.int8))


def _edges_into_centers(pairs: _Pairs, crystal: Crystal) -> EdgeList:
    """Directed edges from the neighbours to the atoms whose neighbours they are."""
    return _edges_of_keys(np.sort(_keys(pairs.center, pairs.neighbor, -pairs.image, crystal)), crystal)


def _edges_out_of_centers(pairs: _Pairs, crystal: Crystal) -> EdgeList:
    """Directed edges from the atoms to those that are their neighbours."""
    return _edges_of_keys(np.sort(_keys(pairs.neighbor, pairs.center, pairs.image, crystal)), crystal)


def _keys_both_ways(pairs: _Pairs, crystal: Crystal) -> np.ndarray:
    """Keys of the edges from atom to neighbour and of their reverses."""
    forward = _keys(pairs.neighbor, pairs.center, pairs.image, crystal)
    backward = _keys(pairs.center, pairs.neighbor, -pairs.image, crystal)
    return np.concatenate((forward, backward))


def _both_directions(pairs: _Pairs, crystal: Crystal) -> EdgeList:
    """Every bond once in each direction: the pairs and their reverses, as a set."""
    keys = np.sort(_keys_both_ways(pairs, crystal))
    return _edges_of_keys(keys[np.diff(keys, prepend=-1) > 0], crystal)  # numpy's unique takes five times as long


def _edges_as_jarvis(crystal: Crystal, settings: GraphSettings) -> EdgeList:
    """The edge list JARVIS makes: each canonical pair and its reverse.

    JARVIS brings a bond found from both of its ends to one form by sorting the two atoms, which leaves a bond
    to the atom's own image in two forms; both are kept, and both are reversed. Without ``use_canonize`` every
    mutual bond is.
    """
    k = settings.max_neighbors
    for cutoff in _widening(crystal, settings.cutoff):
        pairs = _measured_as_jarvis(_search(crystal, cutoff), crystal, cutoff)
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


def _measured_as_jarvis(pairs: _Pairs, crystal: Crystal, cutoff: float) -> _Pairs:
    """The pairs within the cutoff, distances computed as JARVIS does, to the last bit.

    JARVIS compares distances exactly, so that rounding decides which neighbours of a shell are bonds in every
    second crystal. Its atoms stand in a lattice rounded to 5 decimals, its images in the one given.
    """
    positions = crystal.frac_coords @ np.around(crystal.lattice, 5)
    steps = pairs.image.astype(float) @ crystal.lattice + positions[pairs.neighbor] - positions[pairs.center]
    distance = np.sum(steps**2, axis=-1) ** 0.5
    return _Pairs(pairs.center, pairs.neighbor, pairs.image, distance).take(np.flatnonzero(distance <= cutoff))
