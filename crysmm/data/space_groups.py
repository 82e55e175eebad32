"""Space groups of crystals, found by moyo, and their crystal systems.

Nothing here imports torch or, before the first crystal, moyopy, so that worker processes start fast.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from crysmm.config.pretraining import SYMPREC
from crysmm.crystals.crystal import Crystal

if TYPE_CHECKING:
    from torch import Tensor

CRYSTAL_SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
UNKNOWN = 0  # space group of a crystal whose symmetry is not found

_LAST_BEFORE = (0, 2, 15, 74, 142, 167, 194)  # last space group before each crystal system

Numbers = TypeVar("Numbers", int, np.ndarray, "Tensor")


def find_space_group(crystal: Crystal, symprec: float = SYMPREC) -> int:
    """Return the number of the space group, 1 to 230, or ``UNKNOWN`` if moyo finds none.

    Args:
        crystal: Crystal to analyze.
        symprec: Largest distance of an atom from its symmetric position, Angstrom.
    """
    from moyopy import Cell, MoyoDataset

    # moyo logs several lines for each cell that is not primitive; a level that the user has set stays
    logger = logging.getLogger("moyo")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    try:
        cell = Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist())
        return int(MoyoDataset(cell, symprec=symprec).number)
    except ValueError:  # the one error moyopy raises, whatever the reason
        return UNKNOWN


def crystal_system(space_group: Numbers) -> Numbers:
    """Return the indices in ``CRYSTAL_SYSTEMS`` of space groups (a number, an array or a tensor); -1 for ``UNKNOWN``.

    ::

        crystal_system(225)  # 6
    """
    return sum(space_group > last for last in _LAST_BEFORE) - 1  # type: ignore[return-value]  # sum starts with an int


def describe_symmetry(space_groups: np.ndarray) -> str:
    """Describe in one line the fractions of the crystal systems, and of crystals whose symmetry is not found.

    Args:
        space_groups: Space group numbers, ``[n_crystals]``, at least one.
    """
    total = len(space_groups)
    unknown, *known = np.bincount(crystal_system(space_groups) + 1, minlength=len(CRYSTAL_SYSTEMS) + 1)
    fractions = ", ".join(f"{name} {count / total:.1%}" for name, count in zip(CRYSTAL_SYSTEMS, known, strict=True))
    return f"crystal systems: {fractions}; symmetry not found for {unknown} of {total} crystals ({unknown / total:.2%})"
