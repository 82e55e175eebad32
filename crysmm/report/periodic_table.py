"""Where elements stand in the periodic table, and what is said of each there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from crysmm.elements import ATOMIC_NUMBERS
from crysmm.report.groups import Group

_FIRST_OF_PERIOD = (1, 3, 11, 19, 37, 55, 87)
_F_BLOCK_COLUMN = 3
_F_BLOCK_ROW = 3  # rows below its period: one is left free
FULL_COLOR = 2.0  # times the error of all crystals, from which on cells have the full color


@dataclass(frozen=True)
class Cell:
    """An element of the table.

    Args:
        symbol: of the element.
        row: from 1; the f block stands in rows 9 and 10.
        column: from 1 to 18.
        group: the crystals with the element; None where there are none.
        share: of the full color, 0 to 1.
        is_unseen: crystals hold it and no training crystal does.
    """

    symbol: str
    row: int
    column: int
    group: Group | None
    share: float
    is_unseen: bool


def cells(groups: Sequence[Group], mean: float, unseen: Collection[str]) -> list[Cell]:
    """Every element, by atomic number.

    Args:
        groups: crystals by element.
        mean: the error of all of them.
        unseen: symbols of elements that no training crystal holds.
    """
    of_element = {group.name: group for group in groups}
    table = []
    for symbol, atomic_number in ATOMIC_NUMBERS.items():
        row, column = place(atomic_number)
        group = of_element.get(symbol)
        share = min(group.error / (FULL_COLOR * mean), 1.0) if group is not None and mean > 0 else 0.0
        table.append(Cell(symbol, row, column, group, share, symbol in unseen))
    return table


def place(atomic_number: int) -> tuple[int, int]:
    """Row and column of an element, both from 1.

    ::

        place(26)  # (4, 8), iron
    """
    period = sum(atomic_number >= first for first in _FIRST_OF_PERIOD)
    step = atomic_number - _FIRST_OF_PERIOD[period - 1]
    if period == 1:
        return period, 1 if step == 0 else 18
    if period in (2, 3):
        return period, step + 1 if step < 2 else step + 11
    if period in (4, 5) or step < 2:
        return period, step + 1
    if step <= 16:  # lanthanum to lutetium, actinium to lawrencium
        return period + _F_BLOCK_ROW, step - 2 + _F_BLOCK_COLUMN
    return period, step - 13
