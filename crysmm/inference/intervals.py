"""Prediction intervals by split conformal prediction, and the file of the model folder that calibrates them.

The half-width is a quantile of the errors on the validation split, which the network was not trained on, with the
correction for its finite size (Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018)). For new crystals that are
exchangeable with the validation crystals, intervals contain the target with at least the requested probability,
whatever the model and the distribution of its errors. Errors are divided by a width for each crystal before they are
ranked (locally weighted, section 5.2 there), so that intervals widen with the distance from the training crystals.
Errors are those of the values the network is trained on; where these are log10, intervals are asymmetric in original
units.

``calibration.safetensors`` holds these errors, and the embeddings and names of training crystals that distances are
measured from. It carries the checksum of the weights beside it. A converted model has none, and predicts without
intervals and distances.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from crysmm.data.scaler import TargetScaler
from crysmm.errors import ModelFolderError, brief
from crysmm.files import replacing
from crysmm.inference.domain import Domain, TrainingCrystal

COVERAGE = 0.9  # fraction of targets inside the intervals by default
CALIBRATION_FILE = "calibration.safetensors"
WEIGHTS = "weights_sha256"
ERRORS, EMBEDDINGS, DISTANCES = "errors", "training_embeddings", "validation_distances"
CRYSTALS = "training_crystals"  # JSON in UTF-8: a tensor, as two entries of metadata come in any order
FINEST = 10**6  # coverages are read as fractions with at most this denominator, so that 0.7 of 10 is 7


@dataclass(frozen=True)
class Calibration:
    """How a model has done on the validation split.

    Args:
        domain: where its training crystals lie.
        errors: ``[n_val, n_targets]`` absolute errors over the widths of their crystals, in the units learned in,
            ascending for each target; None for classes, whose probabilities say how sure they are.
    """

    domain: Domain
    errors: np.ndarray | None

    @classmethod
    def of(
        cls,
        scaler: TargetScaler,
        training_embeddings: np.ndarray,
        training_crystals: Sequence[TrainingCrystal],
        targets: np.ndarray,
        predictions: np.ndarray,
        embeddings: np.ndarray,
    ) -> Calibration:
        """Calibrate on the validation split.

        Args:
            scaler: says whether values or classes were predicted, and whether log10 was learned.
            training_embeddings: ``[n_kept, d]``, of the training crystals to keep.
            training_crystals: which these are.
            targets: ``[n_val, n_targets]`` original units.
            predictions: for them, as :meth:`TargetScaler.decode` gives them.
            embeddings: ``[n_val, d]``.
        """
        domain = Domain.of(training_embeddings, embeddings, training_crystals)
        if scaler.classes is not None:
            return cls(domain, None)
        widths = domain.widths(domain.distances(embeddings))
        return cls(domain, np.sort(absolute_errors(scaler, targets, predictions) / widths[:, None], axis=0))

    def intervals(
        self, scaler: TargetScaler, predictions: np.ndarray, distances: np.ndarray, coverage: float
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Lower and upper ends ``[n, n_targets]``, original units; None for classes.

        Args:
            scaler: says whether log10 was learned.
            predictions: ``[n, n_targets]`` original units.
            distances: ``[n]``, from the training crystals.
            coverage: share of the targets that the intervals are to hold.
        """
        if self.errors is None:
            return None
        radius = self.domain.widths(distances)[:, None] * conformal_quantile(self.errors, coverage)
        return intervals_about(scaler, predictions, radius)

    def write(self, folder: Path, weights_sha256: str) -> None:
        """Write ``calibration.safetensors`` of the model with these weights."""
        from safetensors.numpy import save

        tensors = {EMBEDDINGS: self.domain.embeddings, DISTANCES: self.domain.validation_distances}
        if self.errors is not None:
            tensors[ERRORS] = self.errors
        if self.domain.crystals is not None:
            tensors[CRYSTALS] = np.frombuffer(json.dumps(self.domain.crystals).encode(), dtype=np.uint8)
        with replacing(folder / CALIBRATION_FILE) as temporary:
            temporary.write_bytes(save(tensors, metadata={WEIGHTS: weights_sha256}))


def read_calibration(folder: Path, weights_sha256: str, scaler: TargetScaler, width: int) -> Calibration | None:
    """The calibration in a model folder; None in one from before there were any.

    Args:
        folder: of the model.
        weights_sha256: checksum of its weights.
        scaler: of the model.
        width: of its embeddings.

    Raises:
        ModelFolderError: it is damaged, or of other weights.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is damaged: {brief(error)}; copy the model folder again") from error
    if metadata.get(WEIGHTS) != weights_sha256:
        raise ModelFolderError(
            f"{path} is of another model than the weights beside it; copy the model folder again, or delete this file "
            "to predict without intervals"
        )
    text = tensors.pop(CRYSTALS, None)
    _check(path, tensors, scaler, width)
    embeddings = tensors[EMBEDDINGS]
    crystals = None if text is None else _parse_crystals(path, text.tobytes(), len(embeddings))
    return Calibration(Domain(embeddings, tensors[DISTANCES], crystals), tensors.get(ERRORS))


def _parse_crystals(path: Path, text: bytes, n_kept: int) -> list[TrainingCrystal]:
    """Which the training crystals are, one an embedding."""
    try:
        crystals = TypeAdapter(list[TrainingCrystal]).validate_json(text)
    except ValidationError:
        crystals = []
    if len(crystals) != n_kept:
        raise ModelFolderError(
            f"{path} is damaged: {CRYSTALS} does not name {n_kept} training crystals; copy the model folder again"
        )
    return crystals


def _check(path: Path, tensors: dict[str, np.ndarray], scaler: TargetScaler, width: int) -> None:
    """Refuse tensors of other names or shapes than the model's."""
    n_val = len(tensors.get(DISTANCES, ()))
    expected = {EMBEDDINGS: (len(tensors.get(EMBEDDINGS, ())), width), DISTANCES: (n_val,)}
    if scaler.classes is None:
        expected[ERRORS] = (n_val, scaler.n_targets)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected or 0 in (shape[0] for shape in found.values()):
        raise ModelFolderError(f"{path} is damaged: it holds {found}, expected {expected}; copy the model folder again")
    if not np.isfinite(tensors[EMBEDDINGS]).all():
        raise ModelFolderError(f"{path} is damaged: an embedding is not finite; copy the model folder again")


def absolute_errors(scaler: TargetScaler, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """``[n, n_targets]`` in the units learned in, of targets and predictions ``[n, n_targets]`` in original units."""
    return np.abs(_learned(scaler, targets) - _learned(scaler, predictions))


def conformal_quantile(errors: np.ndarray, coverage: float) -> np.ndarray:
    """What the error of a new crystal stays below, in the share of cases asked for.

    Args:
        errors: ``[n, n_targets]`` of other crystals, ascending for each target.
        coverage: share of the targets that the intervals are to hold, between 0 and 1.

    Returns:
        ``[n_targets]``: the error of rank ``ceil((n + 1) coverage)``; infinite where there are not so many.
    """
    rank = math.ceil((len(errors) + 1) * _fraction(coverage))
    return errors[rank - 1] if rank <= len(errors) else np.full(errors.shape[1], np.inf)


def is_coverage(number: float) -> bool:
    """Whether intervals can be asked to hold that share of the targets: more than none, and not all."""
    return 0 < number < 1 and 0 < _fraction(number) < 1


def fewest_errors(coverage: float) -> int:
    """The smallest number of errors that gives finite intervals."""
    share = _fraction(coverage)
    return math.ceil(share / (1 - share))


def intervals_about(scaler: TargetScaler, predictions: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends ``[n, n_targets]`` in original units.

    Args:
        scaler: says whether log10 was learned.
        predictions: ``[n, n_targets]`` original units.
        radius: ``[n, n_targets]`` half-widths in the units learned in.
    """
    center = _learned(scaler, predictions)
    if scaler.transform == "log10":
        return 10 ** (center - radius), 10 ** (center + radius)
    return center - radius, center + radius


def _learned(scaler: TargetScaler, values: np.ndarray) -> np.ndarray:
    return np.log10(values) if scaler.transform == "log10" else values


def _fraction(coverage: float) -> Fraction:
    return Fraction(coverage).limit_denominator(FINEST)
