"""Mean errors of groups of crystals: by element, by crystal system, by size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.space_groups import CRYSTAL_SYSTEMS, crystal_system
from crysmm.elements import elements_in

SIZES = ((1, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, None))
"""Numbers of atoms from, and up to."""


@dataclass(frozen=True)
class Group:
    """Some crystals and how far off they are.

    Args:
        name: of what they have in common.
        n: how many.
        error: the mean of their errors.
        uncertainty: standard error of that mean; None of one crystal.
    """

    name: str
    n: int
    error: float
    uncertainty: float | None

    @classmethod
    def of(cls, name: str, errors: np.ndarray) -> Group:
        """The group of at least one crystal with these errors."""
        n = len(errors)
        return cls(name, n, float(errors.mean()), float(errors.std(ddof=1) / np.sqrt(n)) if n > 1 else None)


def by_element(formulas: Sequence[str], errors: np.ndarray) -> list[Group]:
    """A group an element that occurs, by atomic number; a crystal is in those of all its elements."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, formula in enumerate(formulas):
        for symbol in elements_in([formula]):
            places[symbol].append(place)
    return [Group.of(symbol, errors[places[symbol]]) for symbol in elements_in(places)]


def by_crystal_system(space_groups: np.ndarray, errors: np.ndarray) -> list[Group]:
    """A group a crystal system that occurs, from triclinic to cubic; crystals of unknown symmetry are in none."""
    systems = crystal_system(space_groups)
    return _groups(((name, systems == place) for place, name in enumerate(CRYSTAL_SYSTEMS)), errors)


def by_size(n_atoms: np.ndarray, errors: np.ndarray) -> list[Group]:
    """A group a range of numbers of atoms in the cell, of those that occur."""
    ranges = ((low, np.inf if high is None else high) for low, high in SIZES)
    members = ((n_atoms >= low) & (n_atoms <= high) for low, high in ranges)
    names = (f"{low} or more" if high is None else f"{low} to {high}" for low, high in SIZES)
    return _groups(zip(names, members, strict=True), errors)


def _groups(members: Iterable[tuple[str, np.ndarray]], errors: np.ndarray) -> list[Group]:
    return [Group.of(name, errors[is_member]) for name, is_member in members if is_member.any()]
