"""Equivalence classes of atoms and bonds: those that a graph network cannot tell apart are computed once.

Two atoms or bonds are equivalent if their surroundings are, to any depth; symmetry makes most atoms of a crystal copies
of another. The classes are found by color refinement (Weisfeiler and Leman 1968) of the graph and its line graph: with
``c_e`` the color of bond e = u->v, one round is

    c_e  <-  split(c_e,  sum over bonds f into u of label(c_f) wave(cos(f, e))  +  a_u  -  pi a_v)
    a_v   =  sum over bonds f into v of label(c_f)  +  e * sum over bonds f out of v of label'(c_f)    (modulo 1)

The first colors are the elements at both ends and the length; ``split`` gives bonds of one color different colors where
these sums differ, and the rounds end when no color splits. Labels are random numbers, so that a sum represents the
multiset of what it adds up. A network that reads only elements, lengths and angles gives one class one value, whatever
its weights, as far as the lengths and angles of its members agree: to the tolerances below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.graphs.neighbors import SHELL_TOLERANCE, EdgeList
from crysmm.graphs.order import stable_order

LARGEST_SEARCH = 1 << 21  # pairs of bonds; crystals with more are not searched, which bounds memory
# Angstrom between the shortest and the longest bond of a class. Lengths may follow each other in steps below the
# tolerance; after several steps they differ by more than rounding.
LONGEST_CHAIN = 5 * SHELL_TOLERANCE
# For sums over a bond's angles. In 250 crystals of JARVIS-DFT rounding separates equal sums by up to 2e-3, other angles
# make gaps above 1e-2, and 0.005% of the gaps lie between 2e-3 and 5e-3.
ANGLE_TOLERANCE = 3e-3
CONFIRMATIONS = 2  # rounds without a split before the colors are accepted, as one round's labels may collide
ATOM_SCALE = 1e4  # of sums over an atom's bonds, which are exact: in a sum with angles, 3e-7 exceeds ANGLE_TOLERANCE
ROUNDING = 1e-6  # tolerance for these sums, after scaling
LABELS = np.random.default_rng(0).random(1 << 16)  # a cell with more colors than this hardly has equivalent bonds
FREQUENCIES = np.sqrt(np.array([11, 19, 29, 37], dtype=np.float32))  # of the waves by which cosines are compared


@dataclass(frozen=True, eq=False)
class Equivalence:
    """Equivalence classes of the atoms and bonds of a crystal.

    Args:
        representative: First atom of each atom's class, ``[n_atoms]`` int32.
        edge_class: Class of each edge, numbered from 0, ``[n_edges]`` int32.
    """

    representative: np.ndarray
    edge_class: np.ndarray

    @classmethod
    def trivial(cls, n_atoms: int, n_edges: int) -> Equivalence:
        """Make every atom and every edge a class of its own."""
        return cls(np.arange(n_atoms, dtype=np.int32), np.arange(n_edges, dtype=np.int32))

    def merged_sizes(self, edges: EdgeList) -> tuple[int, int]:
        """Return the numbers of edges and triplets that remain if only the representatives are computed."""
        n_atoms = len(self.representative)
        in_degree = np.bincount(edges.destination, minlength=n_atoms)
        # each representative keeps all incoming edges, and one outgoing edge of each class
        n_edges = in_degree[self.representative == np.arange(n_atoms)].sum()
        one_of_class = np.empty(int(self.edge_class.max(initial=-1)) + 1, dtype=np.int64)
        one_of_class[self.edge_class] = np.arange(len(self.edge_class))
        return int(n_edges), int(in_degree[edges.source[one_of_class]].sum())


def find_equivalence(crystal: Crystal, edges: EdgeList, settings: GraphSettings) -> Equivalence:
    """Find the equivalence classes of a crystal's atoms and edges.

    All classes are trivial if the settings leave pairs of bonds out of the line graph, or if there are more than
    ``LARGEST_SEARCH`` pairs.
    """
    n_atoms, n_edges = len(crystal), len(edges)
    in_degree, out_degree = (np.bincount(ends, minlength=n_atoms) for ends in (edges.destination, edges.source))
    incomplete = settings.as_jarvis or settings.triplet_cutoff is not None
    if n_edges == 0 or incomplete or n_atoms * int(in_degree.max()) * int(out_degree.max()) > LARGEST_SEARCH:
        return Equivalence.trivial(n_atoms, n_edges)
    return _Refinement(crystal, edges, in_degree, out_degree).classes()


class _Refinement:
    """Color refinement on dense arrays: atoms with fewer incoming or outgoing edges have empty slots.

    With P the largest in-degree and Q the largest out-degree, ``cosines`` is ``[n_atoms, P, Q]``, between each incoming
    and each outgoing edge of an atom; 0 in empty slots, whose labels are 0 as well.
    """

    def __init__(self, crystal: Crystal, edges: EdgeList, in_degree: np.ndarray, out_degree: np.ndarray):
        self.crystal, self.edges = crystal, edges
        vectors = edges.vectors(crystal)
        self.lengths = np.sqrt(np.einsum("ed,ed->e", vectors, vectors))
        self.incoming = _slots(edges.destination, in_degree, np.arange(len(edges)))  # edges are sorted by destination
        self.outgoing = _slots(edges.source, out_degree, stable_order(edges.source, len(crystal)))
        directions = (vectors / self.lengths[:, None]).astype(np.float32)
        n_atoms = len(crystal)
        first, second = (np.zeros((n_atoms * int(degree.max()), 3), np.float32) for degree in (in_degree, out_degree))
        first[self.incoming], second[self.outgoing] = directions, directions
        # one batched matrix product in fp32: listing the pairs would take several times as long
        self.cosines = first.reshape(n_atoms, -1, 3) @ second.reshape(n_atoms, -1, 3).transpose(0, 2, 1)

    def classes(self) -> Equivalence:
        """Refine the colors until they no longer split, and check the result."""
        numbers = self.crystal.atomic_numbers.astype(np.int64)
        ends = numbers[self.edges.source] << 8 | numbers[self.edges.destination]
        colors, count = _split(ends, self.lengths, SHELL_TOLERANCE)
        confirmed = step = 0
        while confirmed < CONFIRMATIONS and count < len(colors):
            before = count
            colors, count = _split(colors, self._surroundings(colors, step), ANGLE_TOLERANCE)
            confirmed, step = confirmed + 1 if count == before else 0, step + 1
        atom_colors, _ = _split(numbers, self._atom_sums(colors, step), ROUNDING)
        _, first, atom_class = np.unique(atom_colors, return_index=True, return_inverse=True)
        representative = first[atom_class].astype(np.int32)

        # Lengths that follow each other in steps below the tolerance share a color, however far apart the ends are.
        order = stable_order(colors, count)
        starts = np.flatnonzero(np.diff(colors[order], prepend=-1))
        lengths = self.lengths[order]
        longest_chain = (np.maximum.reduceat(lengths, starts) - np.minimum.reduceat(lengths, starts)).max()
        # Every representative must have bonds of every color, in both directions: only then can it replace its class.
        # Colliding labels could violate this.
        is_representative = representative == np.arange(len(numbers))
        complete = all(
            np.bincount(colors[is_representative[end]], minlength=count).all()
            for end in (self.edges.destination, self.edges.source)
        )
        if longest_chain > LONGEST_CHAIN or not complete:
            return Equivalence.trivial(len(numbers), len(colors))
        return Equivalence(representative, colors.astype(np.int32))

    def _surroundings(self, colors: np.ndarray, step: int) -> np.ndarray:
        """Return a number for the surroundings of each bond, ``[n_edges]``."""
        atoms = self._atom_sums(colors, step)
        n_atoms, width, _ = self.cosines.shape
        labels = np.zeros((n_atoms, 1, width), np.float32)
        labels.reshape(-1)[self.incoming] = _labels(colors, step)
        # another wave in every step: angles that one wave maps to equal values differ in the next
        waves = np.sin(self.cosines * FREQUENCIES[step % len(FREQUENCIES)] + np.float32(step))
        angles = (labels @ waves).reshape(-1)[self.outgoing]
        # the factor -pi tells the two ends of a bond apart
        surroundings: np.ndarray = angles + atoms[self.edges.source] - np.pi * atoms[self.edges.destination]
        return surroundings

    def _atom_sums(self, colors: np.ndarray, step: int) -> np.ndarray:
        """Return a number for the bonds of each atom, ``[n_atoms]``."""
        n_atoms = len(self.crystal)
        incoming = np.bincount(self.edges.destination, _labels(colors, step), n_atoms)
        outgoing = np.bincount(self.edges.source, _labels(colors, step + 1), n_atoms)
        # the factor e tells incoming and outgoing bonds apart
        sums: np.ndarray = (incoming + np.e * outgoing) % 1 * ATOM_SCALE
        return sums


def _labels(colors: np.ndarray, step: int) -> np.ndarray:
    """Return a random number between 0 and 1 for each color, another one in every step."""
    return LABELS.take(colors + 997 * step, mode="wrap")


def _slots(atoms: np.ndarray, degree: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the position of each edge in a dense ``[n_atoms, largest degree]`` array, ``[n_edges]``.

    Args:
        atoms: Atom of each edge, ``[n_edges]``.
        degree: Edges of each atom, ``[n_atoms]``.
        order: Permutation that sorts the edges by atom, ``[n_edges]``.
    """
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(degree) - degree, degree)
    slots: np.ndarray = atoms * int(degree.max()) + rank
    return slots


def _split(colors: np.ndarray, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """Return colors that differ where the given ones do or the values have a wider gap than the tolerance.

    Returns:
        Colors from 0, ``[n]`` int64, and their number.
    """
    # keys of different colors are farther apart than any two values; the values' range is at least as large as a gap
    lowest = values.min()
    keys = colors * (2 * (values.max() - lowest) + 1) + (values - lowest)
    order = np.argsort(keys)
    sorted_keys = keys[order]
    numbers = np.zeros(len(order), np.int64)
    np.cumsum(sorted_keys[1:] - sorted_keys[:-1] > tolerance, out=numbers[1:])
    split = np.empty(len(order), np.int64)
    split[order] = numbers
    return split, int(numbers[-1]) + 1
