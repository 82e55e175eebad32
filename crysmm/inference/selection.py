"""Selection of lines of a table of predictions: by bounds of its numbers, and the best of a ranking.

A rule has one of the forms ::

    NAME between A and B              (both included)
    NAME < A                          (or <=, >, >=)
    lowest N NAME                     (or highest), the best first

where NAME is a property, for its prediction, or a column of numbers, such as ``spread`` or ``lower_band_gap``. Bounds
hold together, and the ranking is among the lines that they leave.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import NamedTuple

from crysmm.errors import InputError, nearest, shown
from crysmm.inference.prediction_table import holds_text

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
BETWEEN = re.compile(rf"(?P<name>.+?)\s+between\s+(?P<low>{NUMBER})\s+and\s+(?P<high>{NUMBER})")
COMPARED = re.compile(rf"(?P<name>.+?)\s*(?P<sign><=|>=|<|>)\s*(?P<number>{NUMBER})")
RANKED = re.compile(r"(?P<end>lowest|highest)\s+(?P<count>[1-9]\d*)\s+(?P<name>.+)")
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
FORMS = "'NAME between A and B', 'NAME < A' (or <=, >, >=), 'lowest N NAME' or 'highest N NAME'"
Line = list[str]


class Bound(NamedTuple):
    """Bound of the number at a place in a line: the line is kept if the number is ``sign`` the limit."""

    place: int
    sign: str
    limit: float


class Ranking(NamedTuple):
    """Number of lines to keep: those with the lowest, or the highest, numbers at a place."""

    place: int
    number: int
    end: str


@dataclass(frozen=True)
class Selection:
    """Lines to keep of a table; all by default.

    Args:
        bounds: Bounds that all hold for a line that is kept.
        ranking: Ranking of the lines that they leave; None to keep these in the order of the input.
    """

    bounds: tuple[Bound, ...] = ()
    ranking: Ranking | None = None

    @classmethod
    def parse(cls, rules: Sequence[str], places: Mapping[str, int]) -> Selection:
        """Make a selection from rules.

        Args:
            rules: Rules in the forms above.
            places: Places of the numbers in a line, by name.

        Raises:
            InputError: A rule has none of the forms or an unknown name, or there are two rankings.
        """
        bounds: list[Bound] = []
        rankings: list[Ranking] = []
        for rule in map(str.strip, rules):
            if found := RANKED.fullmatch(rule):
                rankings.append(Ranking(_place(found["name"], places), int(found["count"]), found["end"]))
            elif found := BETWEEN.fullmatch(rule):
                place, low, high = _place(found["name"], places), float(found["low"]), float(found["high"])
                if low > high:
                    raise InputError(f"keep: {shown(rule)} keeps nothing; write the lower number first")
                bounds += [Bound(place, ">=", low), Bound(place, "<=", high)]
            elif found := COMPARED.fullmatch(rule):
                bounds.append(Bound(_place(found["name"], places), found["sign"], float(found["number"])))
            else:
                raise InputError(f"keep: {shown(rule)} is no rule; expected {FORMS}, each in quotes")
        if len(rankings) > 1:
            raise InputError("keep: several rankings (lowest, highest); give one, and bounds for other properties")
        return cls(tuple(bounds), rankings[0] if rankings else None)

    def __bool__(self) -> bool:
        return bool(self.bounds or self.ranking)

    def choose(self, lines: Iterable[Line]) -> Iterable[Line]:
        """Return the lines to keep, those of a ranking from the best; of equal ones, the first counts.

        What is chosen from parts, and then from all that was chosen, is the same as if chosen at once.

        Args:
            lines: Cells of each line; one without a number that is asked for is not kept.
        """
        kept = (
            line
            for line in lines
            if all(line[place] and SIGNS[sign](float(line[place]), limit) for place, sign, limit in self.bounds)
        )
        if self.ranking is None:
            return kept
        place, number, end = self.ranking
        best = nsmallest if end == "lowest" else nlargest
        return best(number, (line for line in kept if line[place]), key=lambda line: float(line[place]))


def places_of_numbers(columns: Sequence[str], targets: Sequence[str]) -> dict[str, int]:
    """Return the places of the numbers in a line of a table of predictions, by column, and by target its prediction."""
    predictions = ["prediction"] if len(targets) == 1 else [f"prediction_{name}" for name in targets]
    of_targets = dict(zip(targets, map(columns.index, predictions), strict=True))
    return of_targets | {name: place for place, name in enumerate(columns) if not holds_text(name)}


def _place(name: str, places: Mapping[str, int]) -> int:
    """Return the place of a number.

    Raises:
        InputError: The name is unknown; the text lists those that are known.
    """
    if name not in places:
        known = list(places)
        raise InputError(f"keep: no number is called {name!r}; there are {', '.join(known)}{nearest(name, known)}")
    return places[name]
