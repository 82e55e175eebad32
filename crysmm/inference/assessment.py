"""Predictions with intervals, distances from the training crystals, and notes on unusual crystals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from crysmm.data.scaler import TargetScaler
from crysmm.inference.domain import FAR, Neighbors
from crysmm.inference.frozen_network import Outputs
from crysmm.inference.intervals import Calibration, coverage_fraction

T = TypeVar("T")


@dataclass(frozen=True)
class Assessment:
    """Predictions for several crystals and their reliability; attributes that the model cannot provide are None.

    Args:
        predictions: Predictions in original units, ``[n, n_targets]``, or probabilities, ``[n, n_classes]``.
        spread: Standard deviation over the members of an ensemble (n - 1 in the denominator), shape of ``predictions``.
        lower: Lower ends of the intervals, ``[n, n_targets]``; -inf if there are too few validation crystals.
        upper: Upper ends of the intervals, ``[n, n_targets]``; inf likewise.
        distance_percentile: Percentage of the validation crystals that are nearer to the training crystals, ``[n]``.
        domain: Notes on how a crystal differs from the training crystals, one per crystal; empty if it does not.
        nearest: Nearest training crystals of each, among the at most 1,000 that the model folder keeps.
    """

    predictions: np.ndarray
    spread: np.ndarray | None = None
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    distance_percentile: np.ndarray | None = None
    domain: list[str] | None = None
    nearest: Neighbors | None = None

    @classmethod
    def join(cls, names: Sequence[str], models: Sequence[Assessment]) -> Assessment:
        """Join the assessments of the same crystals by models of several properties.

        What not all models provide is None. The distance is the largest over the models, and notes that do not hold
        for all models name theirs.

        Args:
            names: Name of the property that each model predicts.
            models: Assessments by these models.
        """
        if len(models) == 1:
            return models[0]
        distances = _all_of([model.distance_percentile for model in models])
        notes = _all_of([model.domain for model in models])
        spread, lower, upper = (
            None if parts is None else np.concatenate(parts, axis=1)
            for parts in (_all_of([getattr(model, name) for model in models]) for name in ("spread", "lower", "upper"))
        )
        return cls(
            np.concatenate([model.predictions for model in models], axis=1),
            spread,
            lower,
            upper,
            distance_percentile=None if distances is None else np.max(distances, axis=0),
            domain=None if notes is None else [_join_notes(names, crystal) for crystal in zip(*notes, strict=True)],
        )

    @property
    def is_far(self) -> np.ndarray:
        """True for crystals farther from the training crystals than nearly all validation crystals, ``[n]``."""
        if self.distance_percentile is None:
            return np.zeros(len(self.predictions), dtype=bool)
        return self.distance_percentile >= FAR


def _all_of(values: Sequence[T | None]) -> list[T] | None:
    """Return the values, or None if one of them is None."""
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None


def _join_notes(names: Sequence[str], notes: Sequence[str]) -> str:
    """Join the notes of several models on one crystal, each with the names of the models if not all have it."""
    models: dict[str, list[str]] = {}
    for name, note in zip(names, notes, strict=True):
        for part in filter(None, note.split("; ")):
            models.setdefault(part, []).append(name)
    return "; ".join(
        part if len(found) == len(names) else f"{part} ({', '.join(found)})" for part, found in models.items()
    )


def elements_of_all(models: Sequence[Iterable[str] | None]) -> tuple[str, ...] | None:
    """Return the elements that the training structures of all models contain; None if unknown for one of them."""
    known = _all_of([None if elements is None else tuple(elements) for elements in models])
    return None if known is None else tuple(e for e in known[0] if all(e in elements for elements in known))


def unseen_elements(elements: Iterable[str] | None, symbols: Iterable[str]) -> list[str]:
    """Return the elements among ``symbols`` that no training structure contains; none if ``elements`` is None."""
    return [] if elements is None else sorted(set(symbols).difference(elements))


@dataclass(frozen=True)
class Assessor:
    """Turns the outputs of a model into assessments.

    Args:
        scaler: Target scaler of the model.
        elements: Symbols of the elements in the training structures; ``None`` if unknown.
        calibration: Calibration of the model, if its folder has one.
        coverage: Fraction of the targets inside the intervals.

    Raises:
        InputError: The coverage is not between 0 and 1.
    """

    scaler: TargetScaler
    elements: Sequence[str] | None
    calibration: Calibration | None
    coverage: float

    def __post_init__(self) -> None:
        coverage_fraction(self.coverage)  # refused before anything is computed

    def assess(self, outputs: Outputs, elements: Sequence[Sequence[str]], n_atoms: np.ndarray) -> Assessment:
        """Assess crystals.

        Args:
            outputs: Outputs of the model for ``n`` crystals.
            elements: Symbols of the elements of each crystal.
            n_atoms: Numbers of atoms, ``[n]``.
        """
        unseen = (unseen_elements(self.elements, symbols) for symbols in elements)
        notes = [[f"{', '.join(symbols)} in no training structure"] if symbols else [] for symbols in unseen]
        lower = upper = percentiles = nearest = None
        if self.calibration is not None:
            domain = self.calibration.domain
            to_nearest, rows = domain.nearest(outputs.embeddings)
            distances = to_nearest.mean(axis=1)
            nearest = Neighbors(domain.crystals, to_nearest, rows)
            percentiles = domain.percentiles(distances)
            ends = self.calibration.intervals(self.scaler, outputs.predictions, distances, n_atoms, self.coverage)
            if ends is not None:
                lower, upper = ends
            for note, percentile in zip(notes, percentiles, strict=True):
                if percentile >= FAR:
                    fraction = "all" if percentile == 100 else f"{percentile:.1f}% of the"
                    note.append(f"farther from the training structures than {fraction} validation structures")
        joined = ["; ".join(note) for note in notes]
        return Assessment(outputs.predictions, outputs.spread, lower, upper, percentiles, joined, nearest)
