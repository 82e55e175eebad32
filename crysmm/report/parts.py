"""What a page is made of besides figures: numbers in large type, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A number in large type.

    Args:
        label: what it is.
        value: the number.
        detail: what to hold beside it.
    """

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows, the others are numbers.

    Args:
        caption: what it shows.
        header: names of the columns.
        rows: of cells.
        is_text: the other columns hold text, not numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False
