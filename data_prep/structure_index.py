"""Which structures have been met before, among a million, in about half a kilobyte each.

Two structures count as one if they have the same reduced formula and the same surroundings: the cube root of the
volume per atom and, for each pair of elements, mean and spread of the distances to the 1st to 7th, 8th to 15th, ...
neighbour agree within a tolerance. Neither cell, origin, orientation nor the order of the atoms matters, and atoms
moved by d change none of these by more than 2 d. A strain of 1%, or another polymorph, makes another structure. The
space group is no part of it: noise changes that at once. What differs beyond 8 Angstrom only, and a crystal and its
mirror image, count as one, as for ``crysmm check``, whose comparison (:mod:`crysmm.data.duplicates`) this condenses.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crysmm.crystal import Crystal
from crysmm.data.duplicates import RANKS, distance_fingerprint

# Angstrom. Of 1,640 pairs of one material that the Materials Project relaxed years apart, 89% agree within the first
# and 98% within the second, which is for what must not be missed; of 8,000 crystals that it lists as different, 10 and
# 29 do not differ from an earlier one.
SAME, NEARLY_SAME = 0.02, 0.05
GROUPS = 8  # of neighbours, equally many in each
UNIT = 0.0005  # Angstrom: lengths are kept as multiples of it, below 65,536


class StructureKey(NamedTuple):
    """What a structure is told apart by.

    Args:
        formula: the reduced formula.
        lengths: ``[1 + 2 * GROUPS * n_pairs_of_elements]`` uint16, in ``UNIT``.
    """

    formula: str
    lengths: np.ndarray


def structure_key(crystal: Crystal) -> StructureKey:
    """The key of a structure.

    Raises:
        StructureError: atoms overlap.
    """
    fingerprint = distance_fingerprint(crystal)
    groups = fingerprint[1:].reshape(-1, GROUPS, len(RANKS) // GROUPS)
    lengths = np.concatenate((fingerprint[:1], groups.mean(axis=2).ravel(), groups.std(axis=2).ravel()))
    return StructureKey(crystal.formula, np.rint(np.minimum(lengths / UNIT, 65535)).astype(np.uint16))


class StructureIndex:
    """Structures by their keys, to be asked whether one of them is the same as another.

    Args:
        tolerance: by how much lengths may differ, Angstrom.
    """

    def __init__(self, tolerance: float = SAME) -> None:
        self._tolerance = tolerance
        self._lengths: dict[str, bytearray] = {}

    def __contains__(self, key: StructureKey) -> bool:
        known = np.frombuffer(self._lengths.get(key.formula, b""), np.uint16).reshape(-1, len(key.lengths))
        apart = np.abs(known.astype(np.int32) - key.lengths).max(axis=1, initial=0)
        return bool((apart <= self._tolerance / UNIT).any())

    def add(self, key: StructureKey) -> None:
        """Take a structure in."""
        self._lengths.setdefault(key.formula, bytearray()).extend(key.lengths.tobytes())


def pack_keys(keys: list[StructureKey]) -> dict[str, np.ndarray]:
    """Keys as the arrays of an ``.npz`` file."""
    return {
        "formula": np.array([key.formula for key in keys], dtype=np.str_),
        "n_lengths": np.array([len(key.lengths) for key in keys], dtype=np.int64),
        "lengths": np.concatenate([key.lengths for key in keys] or [np.empty(0, np.uint16)]),
    }


def unpack_keys(arrays: dict[str, np.ndarray]) -> Iterator[StructureKey]:
    """The keys that :func:`pack_keys` packed."""
    lengths = np.split(arrays["lengths"], np.cumsum(arrays["n_lengths"]))
    for formula, some in zip(arrays["formula"].tolist(), lengths[:-1], strict=True):
        yield StructureKey(formula, some)
