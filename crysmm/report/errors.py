"""One number a crystal that says how far off its prediction is, and what the mean of these is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.duplicates import Counterpart
from crysmm.data.scaler import TargetScaler, class_label
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, UNKNOWN, crystal_system, find_space_group
from crysmm.data.store import Store
from crysmm.elements import ATOMIC_NUMBERS, elements_in
from crysmm.inference.assessment import Assessment
from crysmm.inference.intervals import COVERAGE
from crysmm.report.html import formula_parts, number, share
from crysmm.report.structure import structure_element


@dataclass(frozen=True)
class CrystalErrors:
    """How far off the predictions of a split are.

    Args:
        measure: what the mean over crystals is: ``MAE``, ``MAE / MAD`` or ``error rate``.
        explanation: the same as half a sentence.
        values: ``[n]`` an error a crystal; the worst has the largest.
        ranks: ``[n]`` what crystals are sorted by, worst last; of classes how sure the network was of a wrong one.
        column: ``[n]`` the target that contributes most to it.
    """

    measure: str
    explanation: str
    values: np.ndarray
    ranks: np.ndarray
    column: np.ndarray

    @property
    def mean(self) -> float:
        """Over all crystals."""
        return float(self.values.mean())

    def text(self, value: float) -> str:
        """A mean of some of the values, as people read it."""
        return f"{value:.0%}" if self.measure == "error rate" else number(value)

    def worst(self, n: int) -> list[int]:
        """Places of the crystals that are farthest off, the worst first; of classes, the wrong ones alone."""
        order = np.argsort(-self.ranks, kind="stable")
        return [int(place) for place in order[:n] if self.values[place] > 0]


def crystal_errors(
    scaler: TargetScaler, targets: np.ndarray, predictions: np.ndarray, train_targets: np.ndarray, names: Sequence[str]
) -> CrystalErrors:
    """The error of each crystal.

    One target: the absolute error in original units. Several: the mean over targets of the absolute error as a share
    of the target's mean absolute deviation in the training split. Classes: 1 where the most probable class is wrong.

    Args:
        scaler: says whether these are values or probabilities.
        targets: ``[n, n_targets]`` original units.
        predictions: ``[n, n_targets]``, or ``[n, n_classes]`` probabilities.
        train_targets: ``[n_train, n_targets]``.
        names: one a target.
    """
    if scaler.classes is not None:
        truth = scaler.class_indices(targets)
        wrong = (predictions.argmax(axis=1) != truth) * 1.0
        doubt = 1 - predictions[np.arange(len(truth)), truth]
        explanation = "share of crystals given the wrong class"
        return CrystalErrors("error rate", explanation, wrong, doubt, np.zeros(len(truth), dtype=int))
    errors = np.abs(predictions - targets)
    if len(names) == 1:
        explanation = f"mean absolute error of {names[0]}, in the unit of the input"
        return CrystalErrors("MAE", explanation, errors[:, 0], errors[:, 0], np.zeros(len(errors), dtype=int))
    deviation = np.abs(train_targets - train_targets.mean(axis=0)).mean(axis=0)
    shares = errors / np.where(deviation > 0, deviation, 1.0)
    mean = shares.mean(axis=1)
    explanation = "mean over targets of the absolute error, divided by the mean absolute deviation in training"
    return CrystalErrors("MAE / MAD", explanation, mean, mean, shares.argmax(axis=1))


@dataclass(frozen=True)
class Judged:
    """Crystals that were not learned from, and what was predicted.

    Args:
        split: ``test``, or ``val`` where there is no test split.
        store: of all crystals.
        rows: of the split's crystals in the store.
        targets: ``[n, n_targets]`` original units.
        assessment: the predictions.
        errors: of the predictions.
    """

    split: str
    store: Store
    rows: Sequence[int]
    targets: np.ndarray
    assessment: Assessment
    errors: CrystalErrors

    @property
    def ids(self) -> list[str]:
        """One a crystal."""
        return [self.store.ids[row] for row in self.rows]

    @property
    def formulas(self) -> list[str]:
        """One a crystal."""
        return [self.store.formulas[row] for row in self.rows]


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


MOST_FOUND = 1000  # about a millisecond each


def find_space_groups(store: Store, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Space groups of some crystals; of more than ``MOST_FOUND``, of so many, drawn at random, but always the same.

    Returns:
        Places in ``rows``, and the space group of each, 0 where none was found.
    """
    places = np.arange(len(rows))
    if len(rows) > MOST_FOUND:
        places = np.sort(np.random.default_rng(0).choice(len(rows), MOST_FOUND, replace=False))
    return places, np.array([find_space_group(store.crystal(rows[int(place)])) for place in places])


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


N_WORST = 10
STRUCTURE_HEIGHT = 230  # pixels


@dataclass(frozen=True)
class WorstCrystal:
    """A crystal with a large error.

    Args:
        id: of the crystal.
        formula: element symbols, each with its number, which is empty for 1.
        facts: what is known of it and its prediction, by name.
        note: in what way it is unlike the training crystals; empty where it is not.
        structure: HTML that draws it.
    """

    id: str
    formula: list[tuple[str, str]]
    facts: dict[str, str]
    note: str
    structure: str


def worst_crystals(
    judged: Judged, scaler: TargetScaler, names: Sequence[str], counterparts: Mapping[int, Counterpart]
) -> list[WorstCrystal]:
    """The worst of a split, the worst first.

    Args:
        judged: the split.
        scaler: says whether these are values or probabilities.
        names: one a target.
        counterparts: in the training split, by row, of those that were looked for.
    """
    return [
        _describe(judged, place, _predicted(judged, place, scaler, names), counterparts)
        for place in judged.errors.worst(N_WORST)
    ]


def _describe(
    judged: Judged, place: int, predicted: dict[str, str], counterparts: Mapping[int, Counterpart]
) -> WorstCrystal:
    store, row = judged.store, judged.rows[place]
    crystal = store.crystal(row)
    counterpart = counterparts.get(row)
    in_training = {} if counterpart is None else {"in training": _describe_counterpart(store.ids, counterpart)}
    symmetry = {"space group": _symmetry(find_space_group(crystal)), "atoms": f"{len(crystal):,}"}
    domain = judged.assessment.domain
    return WorstCrystal(
        store.ids[row],
        formula_parts(crystal.formula),
        predicted | symmetry | in_training,
        "" if domain is None else domain[place],
        structure_element(crystal, STRUCTURE_HEIGHT),
    )


def _predicted(judged: Judged, place: int, scaler: TargetScaler, names: Sequence[str]) -> dict[str, str]:
    """Target, prediction and what is known of it; of several targets those of the one that is farthest off."""
    assessment = judged.assessment
    prediction = assessment.predictions[place]
    if scaler.classes is not None:
        truth = int(scaler.class_indices(judged.targets[place : place + 1])[0])
        given = int(np.argmax(prediction))
        return {
            "class": f"{class_label(scaler.classes[truth])}, probability {share(prediction[truth])}",
            "predicted": f"{class_label(scaler.classes[given])}, probability {share(prediction[given])}",
        }
    column = int(judged.errors.column[place])
    several = {judged.errors.measure: judged.errors.text(judged.errors.values[place]), "worst": names[column]}
    facts = several if len(names) > 1 else {}
    facts |= {"target": number(judged.targets[place, column]), "prediction": number(prediction[column])}
    if assessment.lower is not None and assessment.upper is not None and np.isfinite(assessment.upper[place, column]):
        ends = (assessment.lower[place, column], assessment.upper[place, column])
        facts[f"{COVERAGE:.0%} interval"] = " to ".join(map(number, ends))
    if assessment.spread is not None:
        facts["spread"] = number(assessment.spread[place, column])
    return facts


def _symmetry(space_group: int) -> str:
    if space_group == UNKNOWN:
        return "not found"
    return f"{CRYSTAL_SYSTEMS[crystal_system(space_group)]} ({space_group})"


def _describe_counterpart(ids: Sequence[str], counterpart: Counterpart) -> str:
    if counterpart.nearest is None:
        return "none of this formula"
    count = f"{counterpart.n_same_formula} of this formula"
    return f"{count}; most alike {ids[counterpart.nearest]}, distances differ by {counterpart.difference:.2g} Angstrom"
