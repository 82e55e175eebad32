"""Which atoms and bonds of a crystal a graph network cannot tell apart: it needs to compute each kind but once.

Two of them are alike where their surroundings are, to any depth: symmetry makes most atoms of a crystal the copy of
another. The classes are found by colour refinement (Weisfeiler and Leman 1968) of the graph and its line graph: bonds
start with a colour for their elements and length, and get a new one from the colours of the bonds at both ends
and the angles with them, until no colour splits. A network whose bonds and atoms see no more than elements, lengths and
angles gives one class one value, whatever its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.graphs.neighbors import SHELL_TOLERANCE, EdgeList

LARGEST_SEARCH = 1 << 21  # pairs of bonds; more are not compared, which bounds memory
LONGEST_CHAIN = 5 * SHELL_TOLERANCE  # Angstrom between the shortest and the longest of bonds that are alike
ANGLE_TOLERANCE = 3e-4  # of sums over a bond's angles, which a shift of 1e-5 Angstrom changes by less than 1e-4
CONFIRMATIONS = 2  # rounds that split nothing before the colours are believed
ATOM_SCALE = 1e4  # of sums over an atom's bonds, which are exact: beside sums over angles, 1e-7 is a difference
ROUNDING = 1e-6  # of sums over an atom's bonds, so scaled
NUMBERS = np.random.default_rng(0).random(1 << 16)  # any; a cell with more colours has hardly two alike
PERIODS = np.sqrt(np.array([11, 19, 29, 37], dtype=np.float32))  # of the waves cosines are compared by


@dataclass(frozen=True, eq=False)
class Equivalence:
    """Classes of alike atoms and bonds.

    Args:
        atoms: ``[n_atoms]`` int32, the first atom of each atom's class.
        edges: ``[n_edges]`` int32, the number of each edge's class, from 0.
    """

    atoms: np.ndarray
    edges: np.ndarray

    @classmethod
    def none(cls, n_atoms: int, n_edges: int) -> Equivalence:
        """Every atom and every edge a class of its own."""
        return cls(np.arange(n_atoms, dtype=np.int32), np.arange(n_edges, dtype=np.int32))

    @property
    def stands(self) -> np.ndarray:
        """``[n_atoms]`` bool: whether an atom stands for its class."""
        return self.atoms == np.arange(len(self.atoms))

    def sizes(self, edges: EdgeList) -> tuple[int, int]:
        """How many edges and triplets are left where one atom stands for all alike."""
        entering = np.bincount(edges.destination, minlength=len(self.atoms))
        one_of_each = np.empty(int(self.edges.max(initial=-1)) + 1, dtype=np.int64)
        one_of_each[self.edges] = np.arange(len(self.edges))
        return int(entering[self.stands].sum()), int(entering[edges.source[one_of_each]].sum())


def find_equivalence(crystal: Crystal, edges: EdgeList, settings: GraphSettings) -> Equivalence:
    """The classes of a crystal's atoms and edges.

    Each is its own where the settings leave pairs of bonds out, and where there are more than ``LARGEST_SEARCH`` pairs.
    """
    n_atoms, n_edges = len(crystal), len(edges)
    entering, leaving = (np.bincount(ends, minlength=n_atoms) for ends in (edges.destination, edges.source))
    incomplete = settings.as_jarvis or settings.triplet_cutoff is not None
    if n_edges == 0 or incomplete or n_atoms * int(entering.max()) * int(leaving.max()) > LARGEST_SEARCH:
        return Equivalence.none(n_atoms, n_edges)
    return _Refinement(crystal, edges, entering, leaving).classes()


class _Refinement:
    """The bonds into and out of each atom as dense rows, the shorter ones filled up."""

    def __init__(self, crystal: Crystal, edges: EdgeList, entering: np.ndarray, leaving: np.ndarray):
        self.crystal, self.edges = crystal, edges
        vectors = edges.vectors(crystal)
        self.lengths = np.sqrt(np.einsum("ed,ed->e", vectors, vectors))
        self.into = _slots(edges.destination, entering, np.arange(len(edges)))  # sorted already
        self.out_of = _slots(edges.source, leaving, np.argsort(_narrow(edges.source, len(crystal)), kind="stable"))
        directions = (vectors / self.lengths[:, None]).astype(np.float32)
        n_atoms = len(crystal)
        first, second = (np.zeros((n_atoms * int(counts.max()), 3), np.float32) for counts in (entering, leaving))
        first[self.into], second[self.out_of] = directions, directions
        self.cosines = first.reshape(n_atoms, -1, 3) @ second.reshape(n_atoms, -1, 3).transpose(0, 2, 1)

    def classes(self) -> Equivalence:
        """Colours refined until they stay."""
        numbers = self.crystal.atomic_numbers.astype(np.int64)
        ends = numbers[self.edges.source] << 8 | numbers[self.edges.destination]
        colors, count = _split(ends, self.lengths, SHELL_TOLERANCE)
        confirmed = step = 0
        while confirmed < CONFIRMATIONS and count < len(colors):
            before = count
            colors, count = _split(colors, self._surroundings(colors, step), ANGLE_TOLERANCE)
            confirmed, step = confirmed + 1 if count == before else 0, step + 1
        kinds, _ = _split(numbers, self._of_atoms(colors, step), ROUNDING)
        _, first, kind = np.unique(kinds, return_index=True, return_inverse=True)
        found = Equivalence(first[kind].astype(np.int32), colors.astype(np.int32))
        return found if self._holds(found, count) else Equivalence.none(len(numbers), len(colors))

    def _holds(self, found: Equivalence, count: int) -> bool:
        """Whether each class' first atom has bonds of every colour, in and out, and no colour's lengths differ.

        But for chance the former is so, and the latter but for lengths that follow each other in small steps.
        """
        order = np.argsort(_narrow(found.edges, count), kind="stable")
        starts = np.flatnonzero(np.diff(found.edges[order], prepend=-1))
        lengths = self.lengths[order]
        if (np.maximum.reduceat(lengths, starts) - np.minimum.reduceat(lengths, starts)).max() > LONGEST_CHAIN:
            return False
        stands = found.stands
        ends = (self.edges.destination, self.edges.source)
        return all(np.bincount(found.edges[stands[end]], minlength=count).all() for end in ends)

    def _surroundings(self, colors: np.ndarray, step: int) -> np.ndarray:
        """``[n_edges]``: a number for all that surrounds each bond."""
        atoms = self._of_atoms(colors, step)
        n_atoms, width, _ = self.cosines.shape
        labels = np.zeros((n_atoms, 1, width), np.float32)
        labels.reshape(-1)[self.into] = _labels(colors, step)
        waves = np.sin(self.cosines * PERIODS[step % len(PERIODS)] + np.float32(step))
        angles = (labels @ waves).reshape(-1)[self.out_of]
        surroundings: np.ndarray = angles + atoms[self.edges.source] - np.pi * atoms[self.edges.destination]
        return surroundings

    def _of_atoms(self, colors: np.ndarray, step: int) -> np.ndarray:
        """``[n_atoms]``: a number for the bonds of each atom."""
        n_atoms = len(self.crystal)
        entering = np.bincount(self.edges.destination, _labels(colors, step), n_atoms)
        leaving = np.bincount(self.edges.source, _labels(colors, step + 1), n_atoms)
        numbers: np.ndarray = (entering + np.e * leaving) % 1 * ATOM_SCALE
        return numbers


def _narrow(numbers: np.ndarray, end: int) -> np.ndarray:
    """Whole numbers below ``end`` in 16 bits where they fit: numpy sorts those by counting."""
    return numbers.astype(np.uint16) if end <= 1 << 16 else numbers


def _labels(colors: np.ndarray, step: int) -> np.ndarray:
    """Any numbers from 0 to 1, one for each colour, others in every step."""
    return NUMBERS.take(colors + 997 * step, mode="wrap")


def _slots(atoms: np.ndarray, counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """``[n_edges]``: where each edge stands in dense rows, one an atom; ``order`` sorts them by atom."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    slots: np.ndarray = atoms * int(counts.max()) + rank
    return slots


def _split(colors: np.ndarray, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """Colours that differ where those given do or values leave a gap wider than a tolerance, and how many they are."""
    lowest = values.min()
    keys = colors * (2 * (values.max() - lowest) + 1) + (values - lowest)
    order = np.argsort(keys)
    sorted_keys = keys[order]
    numbers = np.zeros(len(order), np.int64)
    np.cumsum(sorted_keys[1:] - sorted_keys[:-1] > tolerance, out=numbers[1:])
    split = np.empty(len(order), np.int64)
    split[order] = numbers
    return split, int(numbers[-1]) + 1
