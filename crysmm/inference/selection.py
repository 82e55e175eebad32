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
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from typing import NamedTuple

from crysmm.errors import InputError, nearest, shown

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
BETWEEN = re.compile(rf"(?P<name>.+?)\s+between\s+(?P<low>{NUMBER})\s+and\s+(?P<high>{NUMBER})")
COMPARED = re.compile(rf"(?P<name>.+?)\s*(?P<sign><=|>=|<|>)\s*(?P<number>{NUMBER})")
RANKED = re.compile(r"(?P<end>lowest|highest)\s+(?P<count>[1-9]\d*)\s+(?P<name>.+)")
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
FORMS = "'NAME between A and B', 'NAME < A' (or <=, >, >=), 'lowest N NAME' or 'highest N NAME'"
Line = list[str]


class Bound(NamedTuple):
    """Bound of the number of a name: a line is kept if the number is ``sign`` the limit."""

    name: str
    sign: str
    limit: float


class Ranking(NamedTuple):
    """Number of lines to keep: those with the lowest, or the highest, numbers of a name."""

    name: str
    number: int
    end: str


@dataclass(frozen=True)
class Selection:
    """Lines to keep of a table; all by default.

    Args:
        bounds: Bounds that all hold for a line that is kept.
        ranking: Ranking of the lines that they leave; None to keep these in the order of the input.
        places: Places of the numbers in a line, by name.
    """

    bounds: tuple[Bound, ...] = ()
    ranking: Ranking | None = None
    places: Mapping[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, rules: Sequence[str]) -> Selection:
        """Make a selection, of a table that is not known yet, from rules in the forms above.

        Raises:
            InputError: A rule has none of the forms, or there are two rankings.
        """
        bounds: list[Bound] = []
        rankings: list[Ranking] = []
        for rule in map(str.strip, rules):
            if found := RANKED.fullmatch(rule):
                rankings.append(Ranking(found["name"], int(found["count"]), found["end"]))
            elif found := BETWEEN.fullmatch(rule):
                low, high = float(found["low"]), float(found["high"])
                if low > high:
                    raise InputError(f"keep: {shown(rule)} keeps nothing; write the lower number first")
                bounds += [Bound(found["name"], ">=", low), Bound(found["name"], "<=", high)]
            elif found := COMPARED.fullmatch(rule):
                bounds.append(Bound(found["name"], found["sign"], float(found["number"])))
            else:
                raise InputError(f"keep: {shown(rule)} is no rule; expected {FORMS}, each in quotes")
        if len(rankings) > 1:
            raise InputError("keep: several rankings (lowest, highest); give one, and bounds for other properties")
        return cls(tuple(bounds), rankings[0] if rankings else None)

    def of_table(self, places: Mapping[str, int]) -> Selection:
        """Return the selection for a table with numbers at these places, by name.

        Raises:
            InputError: It has no number of a name; the text lists those that it has.
        """
        known = list(places)
        for name in [rule.name for rule in (*self.bounds, self.ranking) if rule is not None]:
            if name not in places:
                near = nearest(name, known)
                raise InputError(f"keep: no number is called {name!r}; there are {', '.join(known)}{near}")
        return replace(self, places=places)

    def choose(self, lines: Iterable[Line]) -> Iterable[Line]:
        """Return the lines to keep, those of a ranking from the best; of equal ones, the first counts.

        Choosing from parts and then from their results gives the same as choosing from all at once.

        Args:
            lines: Cells of each line; one without a number that a rule reads is not kept.
        """
        kept = (
            line
            for line in lines
            if all(
                line[self.places[name]] and SIGNS[sign](float(line[self.places[name]]), limit)
                for name, sign, limit in self.bounds
            )
        )
        if self.ranking is None:
            return kept
        name, number, end = self.ranking
        place = self.places[name]
        best = nsmallest if end == "lowest" else nlargest
        return best(number, (line for line in kept if line[place]), key=lambda line: float(line[place]))
