"""Elements of the sites of a CIF, and whether they agree with its chemical formula.

A type symbol names an element (``Fe3+``), or the site is not an atom: ``H2O`` and ``Fe,Ni`` are refused. A label names
one only by habit: ``CO1`` is cobalt, or carbon, or a carbonyl group. It is read where a single reading is possible, or
where a single one agrees with the formula, and refused otherwise.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from crysmm.elements import ATOMIC_NUMBERS, HYDROGENS
from crysmm.errors import StructureError, shown
from crysmm.io.formula import NUMBER, TERM, Formula

FORMULA_CONTRADICTS = "the formula contradicts the atoms"  # how the reason begins
MOST_COMBINATIONS = 4096  # of readings compared with a formula
TYPE = re.compile(rf"([A-Za-z]{{1,2}})(?:\d*|{NUMBER}?[+-]|[+-]{NUMBER}?)|([Hh])\d*\.\d+")  # Fe, FE1, Fe3+, O-2, H1.33
WATER = re.compile(r"wat|h2o|h3o|d2o|hoh|ow", re.IGNORECASE)  # labels of a water's oxygen
GROUPS = ("CO", "NO", "HO", "HF", "CF", "CS", "NP", "PO")  # of atoms, or an element in capitals
NO_ATOM = re.compile(
    r"(?:V(?:ac?|AC)|D(?:u|U|um|UM|is|IS)|T(?:et|ET)?|O(?:ct|CT)|Hal|X|Q)(?![A-Za-z])"
)  # sites and dummies
HEAVIEST = 96  # atomic number beyond which labels such as No1 and Md1 mean something else
KIND = re.compile(r"([A-Z][a-z])([A-Z])")
SEPARATED = re.compile(r"[A-Za-z][\d.+-]*\s*[,/;:|&+]\s*[\d.]*\s*[A-Z]")  # Fe,Ni and 0.6Cu + 0.4Al
MIXED = re.compile(  # Fe0.5Ni0.5, 0.5Fe0.5Ni, (Fe,Ni)1, Fe/Va and 50%Fe
    r"(?:[A-Z][a-z]?0?\.\d+\W*){2}|(?:0?\.\d+[A-Z][a-z]?\W*){2}|"
    r"[(\[{]?[A-Z][a-z]?(?:[,/;|&+][A-Z][a-z]{0,2})+[)\]}]?\W*\w*\W*$|\d+ ?%"
)
PERCENTAGES = re.compile(r"[A-Z][a-z]?(\d{2})[A-Z][a-z]?(\d{2})")  # Fe50Ni50
VACANCY = re.compile(r"Va?c?")
COORDINATION = re.compile(r"/[IVX]+\d*$")  # Si/IV
FRACTION = re.compile(r"\d*\.\d")


@dataclass(frozen=True)
class Readings:
    """The elements a word of a CIF can mean.

    Args:
        elements: The likeliest one first; empty where the word means no element.
        certain: The word alone shows which one, without a formula.
        reason: Why it is not certain.
    """

    elements: tuple[str, ...]
    certain: bool
    reason: str = field(default="", compare=False)


def read_type(word: str) -> Readings:
    """Return what a type symbol can mean.

    Raises:
        StructureError: It names several elements on one site, a group of atoms, or no element.
    """
    found = TYPE.fullmatch(word)
    if found is None:
        _refuse_several(word, "type symbol")
        raise StructureError(f"unknown element {word!r} in the CIF; expected a symbol such as Fe or Fe3+")
    letters = found[1] or found[2]
    symbol = HYDROGENS.get(letters.capitalize(), letters.capitalize())
    if letters == "T" or symbol not in ATOMIC_NUMBERS:  # tritium is rare, tetrahedral sites are not
        _refuse_several(word, "type symbol")
        raise StructureError(f"unknown element {word!r} in the CIF; a vacancy or a dummy is no atom, leave it out")
    if letters in GROUPS:
        return Readings((symbol,), False, f"the type symbol {word!r} may be {symbol} or the group {letters}")
    return Readings((symbol,), True)


def read_label(label: str) -> Readings:
    """Return what the label of a site can mean.

    Raises:
        StructureError: It names several elements on one site.
    """
    if SEPARATED.search(label):
        _refuse_several(label, "label")
    if NO_ATOM.match(label):
        return Readings((), False, f"the label {label!r} names a kind of site, not an element")
    letters, rest = re.fullmatch(r"([A-Za-z]*)(.*)", label, re.DOTALL).groups()  # type: ignore[union-attr]  # any text
    symbol, first = letters[:2].capitalize(), letters[:1].upper()
    elements = [two for two in (symbol,) if len(letters) > 1 and two in ATOMIC_NUMBERS]
    if first in ATOMIC_NUMBERS:
        elements.append(first)
    elif letters == "D":
        elements.append("H")
    if WATER.match(label):
        return Readings(tuple(dict.fromkeys(("O", *elements))), False, f"the label {label!r} may be a water molecule")
    if (kind := KIND.fullmatch(letters)) and kind[2] not in ATOMIC_NUMBERS:
        letters = kind[1]  # BeA is beryllium of kind A
    proper = ATOMIC_NUMBERS.get(letters, HEAVIEST + 1) <= HEAVIEST and _is_single(symbol, rest)
    only = letters.isupper() and letters != "RE" and len(letters) == 2 and elements == [symbol]  # ZN: no element is Z
    reason = f"the label {label!r} alone does not give its element"
    return Readings(tuple(elements), proper or only, reason)


def _is_single(symbol: str, rest: str) -> bool:
    """Return True if a label goes on without a second element or an occupancy, as ``Fe-Ni``, ``Na_K`` and ``Fe0.5``."""
    others = re.findall(r"[A-Z][a-z]|(?<=^[-_])[A-Z](?![a-z])", rest)
    return not FRACTION.match(rest) and all(other == symbol or other not in ATOMIC_NUMBERS for other in others)


def refuse_mixed(label: str) -> None:
    """Refuse a label that gives several elements to a site, whatever its type symbol says: ``Fe0.5Ni0.5``, ``Fe,Ni1``.

    Raises:
        StructureError: With the elements.
    """
    percentages = PERCENTAGES.fullmatch(label)
    if COORDINATION.search(label):
        return
    if not MIXED.match(label) and not (percentages and sum(map(int, percentages.groups())) == 100):
        return
    words = re.findall("[A-Z][a-z]*", label)
    elements = [word for word in words if word in ATOMIC_NUMBERS]
    is_shared = len(set(words)) > 1 or ("%" in label and not label.startswith("100"))
    if elements and is_shared and all(word in elements or VACANCY.fullmatch(word) for word in words):
        raise StructureError(
            f"the label {label!r} puts {' and '.join(dict.fromkeys(words))} on one site: disordered; give an ordered "
            "structure"
        )


def refuse_other_label(label: str, word: str, reading: Readings) -> None:
    """Refuse a label that names another element than the type symbol of its site, where no formula decides.

    Args:
        label: The label.
        word: The type symbol.
        reading: What it means.

    Raises:
        StructureError: With both.
    """
    if SEPARATED.search(label):
        return
    named = read_label(label)
    # One letter may be that of a kind of site: A, B and O of perovskites and spinels.
    names_one = named.certain and len(named.elements[0]) > 1
    if names_one and not set(named.elements) & set(reading.elements):
        raise StructureError(
            f"a site has the label {label!r} and the type symbol {word!r}: {named.elements[0]} or "
            f"{reading.elements[0]}; correct the one that is wrong, or write _chemical_formula_sum"
        )


def _refuse_several(word: str, what: str) -> None:
    """Refuse a word that names several elements.

    Raises:
        StructureError: With the elements.
    """
    symbols = [symbol for symbol, _ in TERM.findall(word)]
    known = list(dict.fromkeys(symbol for symbol in symbols if HYDROGENS.get(symbol, symbol) in ATOMIC_NUMBERS))
    if len(known) < 2 or len(known) < len(set(symbols)):
        return
    if SEPARATED.search(word) or FRACTION.search(word):
        raise StructureError(
            f"the {what} {word!r} puts {' and '.join(known)} on one site: disordered; give an ordered structure"
        )
    raise StructureError(
        f"the {what} {word!r} puts several atoms on one site; expected one element, each atom with its coordinates"
    )


def choose_elements(readings: Sequence[Readings], counts: Sequence[int], formula: Formula | None) -> list[str]:
    """Return the element of each site: the one its word names, or the one that agrees with the formula.

    Args:
        readings: What the word of each site can mean.
        counts: Number of atoms in the cell that each site represents.
        formula: The formula of the file; None if it has none.

    Raises:
        StructureError: A word is ambiguous or unknown, and the formula, if any, does not decide.
    """
    if formula is None:
        for reading in readings:
            if not reading.certain:
                raise StructureError(f"{reading.reason}; write _atom_site_type_symbol or _chemical_formula_sum")
        return [reading.elements[0] for reading in readings]
    if all(reading.certain and len(reading.elements) == 1 for reading in readings):
        return [reading.elements[0] for reading in readings]
    atoms_of: Counter[Readings] = Counter()
    for reading, count in zip(readings, counts, strict=True):
        atoms_of[reading] += count
    words = list(atoms_of)
    agreeing = _agreeing(atoms_of, formula)
    if not agreeing:
        doubtful = next((word for word in words if not word.certain), None)
        if doubtful is not None:
            raise StructureError(
                f"{doubtful.reason}, and no reading agrees with the formula {formula.text!r}; write "
                "_atom_site_type_symbol"
            )
        return [reading.elements[0] for reading in readings]  # comparing these with the formula gives both
    differing = [word for word in words if len({chosen[word] for chosen in agreeing}) > 1]
    doubtful = next((word for word in differing if not word.certain), None)
    if doubtful is not None:
        raise StructureError(
            f"{doubtful.reason}, and several readings agree with the formula {formula.text!r}; write "
            "_atom_site_type_symbol"
        )
    return [agreeing[0][reading] for reading in readings]


def _agreeing(atoms_of: Mapping[Readings, int], formula: Formula) -> list[dict[Readings, str]]:
    """Return the choices of an element for each word that agree with the formula, the likeliest first.

    Those that lack hydrogen count only where no other agrees.
    """
    possible = [[element for element in word.elements if element in formula.counts] for word in atoms_of]
    if not 0 < math.prod(map(len, possible)) <= MOST_COMBINATIONS:
        return []
    complete: list[dict[Readings, str]] = []
    lacking: list[dict[Readings, str]] = []
    for elements in product(*possible):
        chosen = dict(zip(atoms_of, elements, strict=True))
        totals: Counter[str] = Counter()
        for word, count in atoms_of.items():
            totals[chosen[word]] += count
        missing = formula.missing_hydrogen(totals)
        if missing is not None:
            (lacking if missing else complete).append(chosen)
    return complete or lacking


def compare_formula(elements: Sequence[str], formula: Formula | None) -> tuple[str, ...]:
    """Return a note if the atoms lack hydrogen of the formula, else nothing.

    Raises:
        StructureError: The atoms contradict the formula; both are in the text.
    """
    if formula is None:
        return ()
    atoms = Counter(elements)
    missing = formula.missing_hydrogen(atoms)
    if missing is None:
        divisor = math.gcd(*atoms.values())
        found = " ".join(f"{element}{count // divisor}" for element, count in sorted(atoms.items()))
        raise StructureError(
            f"{FORMULA_CONTRADICTS}: _chemical_formula_sum is {shown(formula.text)}, the atoms are {found}"
        )
    if missing:
        return (f"{missing:.0%} of the hydrogen in the formula {shown(formula.text)} has no positions",)
    return ()
