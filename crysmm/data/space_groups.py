"""Space groups and crystal systems of crystals, found by moyo.

Nothing here imports torch or, before the first crystal, moyopy, so that worker processes start fast.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from crysmm.config.pretraining import SYMPREC
from crysmm.crystal import Crystal

if TYPE_CHECKING:
    from torch import Tensor

CRYSTAL_SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
UNKNOWN = 0  # the space group of a crystal whose symmetry could not be found

_LAST_BEFORE = (0, 2, 15, 74, 142, 167, 194)  # the space group before the first of each crystal system

Numbers = TypeVar("Numbers", int, np.ndarray, "Tensor")


@cache
def quiet_moyo() -> None:
    """Keep moyo's log, several lines a crystal that is no primitive cell, off the screen.

    Moyo writes it through Python's ``logging``. Whoever has set the level of the logger ``moyo`` gets what they
    asked for.
    """
    logger = logging.getLogger("moyo")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


def find_space_group(crystal: Crystal, symprec: float = SYMPREC) -> int:
    """Number of the space group, 1 to 230, or ``UNKNOWN`` where moyo finds none.

    Args:
        crystal: the structure.
        symprec: how far, in Angstrom, atoms may be from where the symmetry puts them.
    """
    from moyopy import Cell, MoyoDataset

    quiet_moyo()
    try:
        cell = Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist())
        return int(MoyoDataset(cell, symprec=symprec).number)
    except ValueError:  # the one error moyopy raises, whatever the reason
        return UNKNOWN


def crystal_system(space_group: Numbers) -> Numbers:
    """Places in ``CRYSTAL_SYSTEMS`` of space groups: of one number, an array or a tensor; -1 for ``UNKNOWN``.

    ::

        crystal_system(225)  # 6
    """
    return sum(space_group > last for last in _LAST_BEFORE) - 1  # type: ignore[return-value]  # sum starts with an int


def describe_symmetry(space_groups: np.ndarray) -> str:
    """One line: the share of each crystal system, and of the crystals whose symmetry could not be found.

    Args:
        space_groups: ``[n_crystals]``, at least one.
    """
    total = len(space_groups)
    unknown, *known = np.bincount(crystal_system(space_groups) + 1, minlength=len(CRYSTAL_SYSTEMS) + 1)
    shares = ", ".join(f"{name} {count / total:.1%}" for name, count in zip(CRYSTAL_SYSTEMS, known, strict=True))
    return f"crystal systems: {shares}; symmetry not found for {unknown} of {total} crystals ({unknown / total:.2%})"
