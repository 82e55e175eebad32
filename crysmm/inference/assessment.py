"""Predictions with what is known of how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crysmm.data.scaler import TargetScaler
from crysmm.inference.domain import FAR, Neighbors
from crysmm.inference.frozen_network import Outputs
from crysmm.inference.intervals import Calibration


@dataclass(frozen=True)
class Assessment:
    """Predictions of some crystals, a row each; what the model folder holds no figures for is None.

    Args:
        predictions: ``[n, n_targets]`` original units, or ``[n, n_classes]`` probabilities.
        spread: as ``predictions``: deviation of an ensemble's members (n - 1 in the denominator).
        lower: ``[n, n_targets]`` lower end of the interval; -inf where too few crystals validate.
        upper: ``[n, n_targets]`` upper end; inf likewise.
        distance_percentile: ``[n]`` percentage of the validation crystals that are nearer to the training crystals.
        domain: ``[n]`` in what way a crystal is unlike the training crystals; empty where it is not.
        nearest: the nearest training crystals of each, of the at most 1,000 that the model folder keeps.
    """

    predictions: np.ndarray
    spread: np.ndarray | None = None
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    distance_percentile: np.ndarray | None = None
    domain: list[str] | None = None
    nearest: Neighbors | None = None

    @property
    def is_far(self) -> np.ndarray:
        """``[n]`` whether a crystal is farther from the training crystals than nearly all validation crystals."""
        if self.distance_percentile is None:
            return np.zeros(len(self.predictions), dtype=bool)
        return self.distance_percentile >= FAR


@dataclass(frozen=True)
class Assessor:
    """Makes assessments of what a model gives out.

    Args:
        scaler: says whether values or classes are predicted, and whether log10 was learned.
        elements: symbols of the elements of the training structures; ``None`` where these are not known.
        calibration: of the model, if its folder has one.
        coverage: share of the targets that intervals are to hold.
    """

    scaler: TargetScaler
    elements: Sequence[str] | None
    calibration: Calibration | None
    coverage: float

    def unseen(self, symbols: Iterable[str]) -> list[str]:
        """Those that no training structure held; none where these are not known."""
        return [] if self.elements is None else sorted(set(symbols).difference(self.elements))

    def assess(self, outputs: Outputs, elements: Sequence[Sequence[str]]) -> Assessment:
        """Assess crystals.

        Args:
            outputs: the model's.
            elements: the symbols of each crystal's elements.
        """
        unseen = map(self.unseen, elements)
        notes = [[f"{', '.join(symbols)} in no training structure"] if symbols else [] for symbols in unseen]
        lower = upper = percentiles = nearest = None
        if self.calibration is not None:
            domain = self.calibration.domain
            to_nearest, rows = domain.nearest(outputs.embeddings)
            nearest = domain.neighbors(to_nearest, rows)
            distances = to_nearest.mean(axis=1)
            percentiles = domain.percentiles(distances)
            ends = self.calibration.intervals(self.scaler, outputs.predictions, distances, self.coverage)
            lower, upper = (None, None) if ends is None else ends
            for note, percentile in zip(notes, percentiles, strict=True):
                if percentile >= FAR:
                    note.append(f"farther from the training structures than {_share(percentile)} validation structures")
        joined = ["; ".join(note) for note in notes]
        return Assessment(outputs.predictions, outputs.spread, lower, upper, percentiles, joined, nearest)


def _share(percentile: float) -> str:
    return "all" if percentile == 100 else f"{percentile:.1f}% of the"
