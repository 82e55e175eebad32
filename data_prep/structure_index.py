"""Index of millions of structures that finds duplicates, with about half a kilobyte per structure.

Two structures are the same if their reduced formulas are equal and the following lengths agree within a tolerance: the
cube root of the volume per atom and, for each pair of elements, mean and standard deviation of the distances to the 1st
to 7th, 8th to 15th, ... neighbor. Cell, origin, orientation and order of the atoms do not matter, and moving atoms by d
changes no length by more than 2 d. A strain of 1% or another polymorph makes another structure. The space group is not
compared, as noise changes it. Structures that differ beyond 8 Angstrom only, and mirror images, count as the same; so
they do in ``crysmm check``, whose comparison (:mod:`crysmm.graphs.distances`) this condenses.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crysmm.crystals.crystal import Crystal
from crysmm.graphs.distances import RANKS, sorted_distances

# Tolerances in Angstrom. Of 1,640 pairs of one material that the Materials Project relaxed years apart, 89% agree
# within the first and 98% within the second, which is for structures that must not be missed. Of 8,000 crystals that it
# lists as different, 10 and 29 agree with an earlier one.
SAME, NEARLY_SAME = 0.02, 0.05
GROUPS = 8  # groups of neighbors, all of the same size
UNIT = 0.0005  # Angstrom; lengths are stored as multiples of it, in 16 bits


class StructureKey(NamedTuple):
    """Quantities that distinguish a structure from others.

    Args:
        formula: Reduced formula.
        lengths: Lengths in ``UNIT``, uint16 ``[1 + 2 * GROUPS * n_pairs_of_elements]``.
    """

    formula: str
    lengths: np.ndarray


def structure_key(crystal: Crystal) -> StructureKey:
    """Compute the key of a structure.

    Raises:
        StructureError: Atoms overlap.
    """
    fingerprint = sorted_distances(crystal).fingerprint()
    groups = fingerprint[1:].reshape(-1, GROUPS, len(RANKS) // GROUPS)
    lengths = np.concatenate((fingerprint[:1], groups.mean(axis=2).ravel(), groups.std(axis=2).ravel()))
    return StructureKey(crystal.formula, np.rint(np.minimum(lengths / UNIT, 65535)).astype(np.uint16))


class StructureIndex:
    """Set of structures; ``key in index`` is True if it contains the same structure.

    Args:
        tolerance: Largest difference of lengths of the same structure, in Angstrom.
    """

    def __init__(self, tolerance: float = SAME) -> None:
        self._tolerance = tolerance
        self._lengths: dict[str, bytearray] = {}  # of all structures with a formula, one after the other

    def __contains__(self, key: StructureKey) -> bool:
        known = np.frombuffer(self._lengths.get(key.formula, b""), np.uint16).reshape(-1, len(key.lengths))
        apart = np.abs(known.astype(np.int32) - key.lengths).max(axis=1, initial=0)
        return bool((apart <= self._tolerance / UNIT).any())

    def add(self, key: StructureKey) -> None:
        """Add a structure."""
        self._lengths.setdefault(key.formula, bytearray()).extend(key.lengths.tobytes())


def pack_keys(keys: list[StructureKey]) -> dict[str, np.ndarray]:
    """Convert keys to the arrays of an ``.npz`` file."""
    return {
        "formula": np.array([key.formula for key in keys], dtype=np.str_),
        "n_lengths": np.array([len(key.lengths) for key in keys], dtype=np.int64),
        "lengths": np.concatenate([key.lengths for key in keys] or [np.empty(0, np.uint16)]),
    }


def unpack_keys(arrays: dict[str, np.ndarray]) -> Iterator[StructureKey]:
    """Yield the keys in the arrays of :func:`pack_keys`."""
    lengths = np.split(arrays["lengths"], np.cumsum(arrays["n_lengths"]))
    for formula, some in zip(arrays["formula"].tolist(), lengths[:-1], strict=True):
        yield StructureKey(formula, some)
