"""Errors of a model by element, crystal system and cell size, and the crystals with the largest errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.duplicates import Counterpart
from crysmm.data.scaler import TargetScaler, class_label, varies
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, crystal_system, find_space_group
from crysmm.data.store import Store
from crysmm.data.units import after_name, after_number, number
from crysmm.elements import ATOMIC_NUMBERS, elements_in
from crysmm.inference import COVERAGE
from crysmm.inference.assessment import Assessment
from crysmm.report.html import formula_parts, percentage, space_group_name
from crysmm.report.structure import structure_element

SIZES = ((1, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, None))  # ranges of atoms per cell, ends included
MAX_SPACE_GROUPS = 1000  # finding one takes about a millisecond
N_WORST = 10
STRUCTURE_HEIGHT = 230  # pixels
FULL_COLOR = 2.0  # error, relative to the mean of all crystals, from which a cell of the periodic table has full color

_FIRST_OF_PERIOD = (1, 3, 11, 19, 37, 55, 87)  # atomic numbers
_F_BLOCK_COLUMN = 3
_F_BLOCK_ROW = 3  # rows below its period; one row stays empty


@dataclass(frozen=True)
class CrystalErrors:
    """Errors of the predictions for a split, one per crystal.

    Args:
        metric: Name of the mean over crystals: ``MAE``, ``MAE / MAD`` or ``error rate``.
        label: The same with the unit.
        explanation: Definition of the metric, without a period.
        values: Error of each crystal, ``[n]``.
        ranks: Sort keys, largest for the worst crystal, ``[n]``; for classes, 1 minus the probability of the true one.
        column: Target with the largest error of each crystal, ``[n]``.
    """

    metric: str
    label: str
    explanation: str
    values: np.ndarray
    ranks: np.ndarray
    column: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over all crystals."""
        return float(self.values.mean())

    def text(self, value: float) -> str:
        """Format the mean of some of the values."""
        return f"{value:.0%}" if self.metric == "error rate" else number(value)

    def worst(self, n: int) -> list[int]:
        """Return up to ``n`` indices of the crystals with the largest errors, worst first; zero errors are left out."""
        order = np.argsort(-self.ranks, kind="stable")
        return [int(index) for index in order[:n] if self.values[index] > 0]


def crystal_errors(
    scaler: TargetScaler,
    targets: np.ndarray,
    predictions: np.ndarray,
    train_targets: np.ndarray,
    names: Sequence[str],
    units: Sequence[str | None],
) -> CrystalErrors:
    """Compute the error of each crystal.

    One target: the absolute error in original units. Several targets: the mean, over those of a crystal, of the error
    divided by the mean absolute deviation (MAD) of the target in the training split. Classes: 1 if the most probable
    class is wrong.

    Args:
        scaler: Scaler of the model; it knows the classes.
        targets: Targets in original units, NaN where missing, ``[n, n_targets]``.
        predictions: Predictions in original units, ``[n, n_targets]``, or probabilities, ``[n, n_classes]``.
        train_targets: Targets of the training split, ``[n_train, n_targets]``.
        names: Names of the targets.
        units: Unit of each target, None where unknown.
    """
    if scaler.classes is not None:
        truth = scaler.class_indices(targets)
        wrong = (predictions.argmax(axis=1) != truth) * 1.0
        doubt = 1 - predictions[np.arange(len(truth)), truth]
        explanation = "fraction of crystals whose most probable class is wrong"
        return CrystalErrors("error rate", "error rate", explanation, wrong, doubt, np.zeros(len(truth), dtype=int))
    errors = np.abs(predictions - targets)
    if len(names) == 1:
        label, explanation = f"MAE{after_name(units[0])}", f"mean absolute error of {names[0]}{after_name(units[0])}"
        return CrystalErrors("MAE", label, explanation, errors[:, 0], errors[:, 0], np.zeros(len(errors), dtype=int))
    mean_of_training = np.nanmean(train_targets, axis=0)
    mad = np.nanmean(np.abs(train_targets - mean_of_training), axis=0)
    # A target that is constant in training has no scale.
    relative = errors / np.where(varies(mad, mean_of_training), mad, 1.0)
    mean = np.nanmean(relative, axis=1)  # every crystal has a target
    explanation = "mean over targets of the absolute error divided by the mean absolute deviation in the training split"
    name = "error / MAD of training"
    return CrystalErrors(name, name, explanation, mean, mean, np.nanargmax(relative, axis=1))


@dataclass(frozen=True)
class EvaluatedSplit:
    """Held-out crystals with their predictions.

    Args:
        split: ``test``, or ``val`` if there is no test split.
        store: Store of all crystals.
        rows: Store rows of the split.
        targets: Targets in original units, ``[n, n_targets]``.
        assessment: Predictions with intervals and distances.
        errors: Error of each crystal.
    """

    split: str
    store: Store
    rows: Sequence[int]
    targets: np.ndarray
    assessment: Assessment
    errors: CrystalErrors


@dataclass(frozen=True)
class Group:
    """Mean error of a group of crystals.

    Args:
        name: Name of the group, such as ``cubic``.
        n: Number of crystals.
        error: Mean of their errors.
        uncertainty: Standard error of that mean; None for a single crystal.
    """

    name: str
    n: int
    error: float
    uncertainty: float | None

    @classmethod
    def of(cls, name: str, errors: np.ndarray) -> Group:
        """Make a group from the errors of its crystals, at least one."""
        n = len(errors)
        return cls(name, n, float(errors.mean()), float(errors.std(ddof=1) / np.sqrt(n)) if n > 1 else None)


def by_element(formulas: Sequence[str], errors: np.ndarray) -> list[Group]:
    """Group crystals by element, in order of atomic number; a crystal belongs to the groups of all its elements."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, formula in enumerate(formulas):
        for symbol in elements_in([formula]):
            members[symbol].append(index)
    return [Group.of(symbol, errors[members[symbol]]) for symbol in elements_in(members)]


def by_crystal_system(space_groups: np.ndarray, errors: np.ndarray) -> list[Group]:
    """Group crystals by crystal system, from triclinic to cubic; those of unknown space group are left out."""
    # Crystals of unknown space group have the index -1, which is in no group.
    systems = crystal_system(space_groups)
    return [
        Group.of(name, errors[systems == index])
        for index, name in enumerate(CRYSTAL_SYSTEMS)
        if (systems == index).any()
    ]


def by_size(n_atoms: np.ndarray, errors: np.ndarray) -> list[Group]:
    """Group crystals by the number of atoms in the cell; empty ranges are left out."""
    groups = []
    # Ranges double, as errors change with the order of magnitude of the cell.
    for low, high in SIZES:
        is_member = (n_atoms >= low) & (n_atoms <= (np.inf if high is None else high))
        if is_member.any():
            name = f"{low} or more" if high is None else f"{low} to {high}"
            groups.append(Group.of(name, errors[is_member]))
    return groups


def find_space_groups(store: Store, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Find the space groups of crystals, or of a fixed random sample of ``MAX_SPACE_GROUPS`` if there are more.

    Returns:
        Indices into ``rows``, and the space group of each, 0 if none was found.
    """
    sample = np.arange(len(rows))
    # A fixed sample keeps the report of a run reproducible and bounds its time.
    if len(rows) > MAX_SPACE_GROUPS:
        sample = np.sort(np.random.default_rng(0).choice(len(rows), MAX_SPACE_GROUPS, replace=False))
    return sample, np.array(
        [find_space_group(one) for one in store.iter_crystals([rows[index] for index in sample.tolist()])]
    )


@dataclass(frozen=True)
class Cell:
    """Cell of the periodic table.

    Args:
        symbol: Element symbol.
        row: Row from 1; the f block is in rows 9 and 10.
        column: Column from 1 to 18.
        group: Crystals that contain the element; None if there are none.
        shade: Fraction of the full color, 0 to 1.
        is_unseen: True if the element is in no training crystal.
    """

    symbol: str
    row: int
    column: int
    group: Group | None
    shade: float
    is_unseen: bool


def periodic_table(groups: Sequence[Group], mean: float, unseen: Collection[str]) -> list[Cell]:
    """Return the cells of all elements, by atomic number.

    Args:
        groups: Crystals grouped by element.
        mean: Mean error of all crystals.
        unseen: Symbols of the elements that are in no training crystal.
    """
    group_of = {group.name: group for group in groups}
    cells = []
    for symbol, atomic_number in ATOMIC_NUMBERS.items():
        row, column = table_position(atomic_number)
        group = group_of.get(symbol)
        shade = min(group.error / (FULL_COLOR * mean), 1.0) if group is not None and mean > 0 else 0.0
        cells.append(Cell(symbol, row, column, group, shade, symbol in unseen))
    return cells


def table_position(atomic_number: int) -> tuple[int, int]:
    """Return the row and the column of an element in the periodic table, both from 1.

    ::

        table_position(26)  # (4, 8), iron
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


@dataclass(frozen=True)
class WorstCrystal:
    """Crystal with a large error.

    Args:
        id: Id of the crystal.
        formula: Element symbols and counts, from :func:`crysmm.report.html.formula_parts`.
        facts: Target, prediction and symmetry by name, as text.
        note: Difference from the training crystals; empty if there is none.
        structure: HTML of the structure.
    """

    id: str
    formula: list[tuple[str, str]]
    facts: dict[str, str]
    note: str
    structure: str


def worst_crystals(
    evaluated: EvaluatedSplit,
    scaler: TargetScaler,
    names: Sequence[str],
    units: Sequence[str | None],
    counterparts: Mapping[int, Counterpart],
) -> list[WorstCrystal]:
    """Describe the crystals with the largest errors, worst first.

    Args:
        evaluated: Held-out split.
        scaler: Scaler of the model; it knows the classes.
        names: Names of the targets.
        units: Unit of each target, None where unknown.
        counterparts: Most similar training crystals by store row, of the crystals that were compared.
    """
    store, domain = evaluated.store, evaluated.assessment.domain
    worst = []
    for index in evaluated.errors.worst(N_WORST):
        row = evaluated.rows[index]
        crystal = store.crystal(row)
        facts = _predicted(evaluated, index, scaler, names, units)
        facts["space group"] = space_group_name(find_space_group(crystal))
        facts["atoms"] = f"{len(crystal):,}"
        if (counterpart := counterparts.get(row)) is not None:
            facts["in training"] = "none with this formula"
            if counterpart.nearest is not None:
                facts["in training"] = (
                    f"{counterpart.n_same_formula} with this formula; the most similar is "
                    f"{store.ids[counterpart.nearest]} (distances differ by {counterpart.difference:.2g} Angstrom)"
                )
        structure = structure_element(crystal, STRUCTURE_HEIGHT)
        note = "" if domain is None else domain[index]
        worst.append(WorstCrystal(store.ids[row], formula_parts(crystal.formula), facts, note, structure))
    return worst


def _predicted(
    evaluated: EvaluatedSplit, index: int, scaler: TargetScaler, names: Sequence[str], units: Sequence[str | None]
) -> dict[str, str]:
    """Return the target and the prediction for a crystal as text; with several targets, for the worst of them."""
    assessment, errors = evaluated.assessment, evaluated.errors
    prediction = assessment.predictions[index]
    if scaler.classes is not None:
        truth = int(scaler.class_indices(evaluated.targets[index : index + 1])[0])
        predicted = int(np.argmax(prediction))
        return {
            "class": f"{class_label(scaler.classes[truth])}, probability {percentage(prediction[truth])}",
            "predicted": f"{class_label(scaler.classes[predicted])}, probability {percentage(prediction[predicted])}",
        }
    column = int(errors.column[index])
    unit, facts = after_number(units[column]), {}
    if len(names) > 1:
        facts = {errors.metric: errors.text(errors.values[index]), "worst target": names[column]}
    values = {"target": evaluated.targets[index, column], "prediction": prediction[column]}
    facts |= {name: f"{number(value)}{unit}" for name, value in values.items()}
    if assessment.lower is not None and assessment.upper is not None and np.isfinite(assessment.upper[index, column]):
        ends = (assessment.lower[index, column], assessment.upper[index, column])
        facts[f"{COVERAGE:.0%} interval"] = " to ".join(map(number, ends)) + unit
    if assessment.spread is not None:
        facts["standard deviation"] = f"{number(assessment.spread[index, column])}{unit}"
    return facts
