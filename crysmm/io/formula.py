"""Chemical formulas as files and tables give them, compared with the atoms of their structures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from crysmm.elements import ATOMIC_NUMBERS, HYDROGENS

NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"  # digits in one way alone: a long row of them is not tried in all ways
TERM = re.compile(rf"([A-Z][a-z]?)({NUMBER}?)")
ELEMENT_AND_NUMBER = re.compile(rf"[A-Za-z]{{1,2}}{NUMBER}?")
FORMULA = re.compile(rf"(?:{TERM.pattern}\s*)+")


@dataclass(frozen=True)
class Formula:
    """A chemical formula as a file gives it.

    Args:
        text: As written.
        counts: Number of each element; deuterium and tritium are hydrogen.
        rounding: One unit of the last digit of each number, added up; 0 of integers.
    """

    text: str
    counts: Mapping[str, float]
    rounding: float

    @classmethod
    def parse(cls, text: str | None) -> Formula | None:
        """Return the formula in a text such as ``Fe2 O3``, ``FE2 O3`` or ``Fe2O3``; None if it is none."""
        text = "?" if text is None or re.search(r"\)[\d.n]", text) else text
        words = re.sub(r"[()]", " ", text).split()
        has_case = any(re.match("[A-Z][a-z]", word) for word in words)
        if len(words) > 1 and not has_case and all(ELEMENT_AND_NUMBER.fullmatch(word) for word in words):
            words = [word.capitalize() for word in words]  # SI1 O2: blanks keep elements apart, so SI is silicon
        if not words or not all(FORMULA.fullmatch(word) for word in words):
            return None
        counts: dict[str, float] = {}
        rounding = 0.0
        for symbol, number in TERM.findall(" ".join(words)):
            element = HYDROGENS.get(symbol, symbol)
            if element not in ATOMIC_NUMBERS or number == ".":
                return None
            counts[element] = counts.get(element, 0.0) + float(number or 1)
            decimals = number.partition(".")[2]
            rounding += 10.0 ** -len(decimals) if decimals else 0.0
        present = {element: count for element, count in counts.items() if count > 0}
        return cls(text, present, rounding) if present and math.isfinite(sum(present.values())) else None

    def missing_hydrogen(self, atoms: Mapping[str, int]) -> float | None:
        """Return the fraction of the hydrogen that these atoms lack; None if they contradict the formula.

        Proportions are compared, not numbers. Hydrogen may be missing: X-rays hardly see it.
        """
        ours = {element: count for element, count in atoms.items() if element != "H"}
        theirs = {element: count for element, count in self.counts.items() if element != "H"}
        if ours.keys() != theirs.keys():
            return None
        hydrogen, expected = atoms.get("H", 0), self.counts.get("H", 0.0)
        if not ours:
            return 0.0 if hydrogen else None
        scale = sum(ours.values()) / sum(theirs.values())
        slack = scale * self.rounding + 1e-6
        if any(abs(count - scale * theirs[element]) > slack for element, count in ours.items()):
            return None
        missing = scale * expected - hydrogen
        if abs(missing) <= slack:
            return 0.0
        return missing / (scale * expected) if missing > 0 else None
