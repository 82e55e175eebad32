"""The crystals that a model is farthest off with, to be looked at one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.counterparts import Counterpart
from crysmm.data.scaler import TargetScaler, class_label
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, UNKNOWN, crystal_system, find_space_group
from crysmm.inference.intervals import COVERAGE
from crysmm.report.formula import formula_parts
from crysmm.report.judged import Judged
from crysmm.report.numbers import number, share
from crysmm.report.structure import structure_element

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
