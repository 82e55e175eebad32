"""What a model folder keeps of the validation split: errors for intervals, and distances for the domain.

``calibration.safetensors`` lies beside the weights and names them by their checksum. A folder without it, from before
there were intervals, predicts all the same; so does one whose file does not name the training crystals it keeps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from crysmm.data.scaler import TargetScaler
from crysmm.errors import ModelFolderError, brief
from crysmm.files import replacing
from crysmm.inference.domain import Domain, TrainingCrystal
from crysmm.inference.intervals import absolute_errors, conformal_quantile, intervals_about

CALIBRATION_FILE = "calibration.safetensors"
WEIGHTS = "weights_sha256"
ERRORS, EMBEDDINGS, DISTANCES = "errors", "training_embeddings", "validation_distances"
CRYSTALS = "training_crystals"  # JSON in UTF-8: a tensor, as two entries of metadata come in any order


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
