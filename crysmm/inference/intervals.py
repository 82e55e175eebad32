"""Prediction intervals by split conformal prediction, and the file of the model folder that calibrates them.

The half-width is a quantile of the errors on the validation split, which the network was not trained on, with the
correction for its finite size (Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018)). For new crystals that are
exchangeable with the validation crystals, intervals contain the target with at least the requested probability,
whatever the model and the distribution of its errors. Errors are divided by the error that is to be expected of each
crystal before they are ranked (locally weighted, section 5.2 there; :mod:`crysmm.inference.error_scale`), so that
intervals are wide where errors are large. Errors are those of the values the network is trained on; where these are
log10, intervals are asymmetric in original units.

``calibration.safetensors`` holds these ratios, the coefficients of the expected errors, and the embeddings and names of
training crystals that distances are measured from. It carries the checksum of the weights beside it. A converted model
has none, and predicts without intervals and distances.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError, ModelFolderError, brief
from crysmm.files import replacing
from crysmm.inference.domain import Domain, TrainingCrystal
from crysmm.inference.error_scale import ErrorScale, fit_error_scale
from crysmm.inference.model_files import CALIBRATION_FILE

FINEST = 10**6  # coverages are read as fractions with at most this denominator, so that 0.7 of 10 is 7
WEIGHTS = "weights_sha256"  # metadata key
RATIOS, COEFFICIENTS, N_ATOMS = "error_ratios", "error_coefficients", "validation_n_atoms"
PREDICTIONS = "validation_predictions"  # their low end and standard deviation
EMBEDDINGS, DISTANCES = "training_embeddings", "validation_distances"
CRYSTALS = "training_crystals"  # JSON in UTF-8


@dataclass(frozen=True)
class Calibration:
    """Results on the validation split that intervals and distances are calibrated on.

    Args:
        domain: Embeddings of training crystals, and distances of the validation crystals from them.
        ratios: Absolute errors divided by the errors to be expected, ascending for each target and NaN at the end where
            validation crystals lack it, ``[n_val, n_targets]``; None for classes, which have probabilities instead of
            intervals.
        scale: Expected errors in the units of training; None for classes.
    """

    domain: Domain
    ratios: np.ndarray | None = None
    scale: ErrorScale | None = None

    @property
    def fewest_labels(self) -> int | None:
        """Number of validation crystals that have the rarest target; None for classes."""
        return None if self.ratios is None else int((~np.isnan(self.ratios)).sum(axis=0).min())

    @classmethod
    def fit(
        cls,
        scaler: TargetScaler,
        domain: Domain,
        targets: np.ndarray,
        predictions: np.ndarray,
        embeddings: np.ndarray,
        n_atoms: np.ndarray,
    ) -> Calibration:
        """Calibrate on the validation split.

        Args:
            scaler: Target scaler of the model.
            domain: Embeddings of training crystals, and distances of the validation crystals.
            targets: Targets in original units, NaN where missing, ``[n_val, n_targets]``.
            predictions: Predictions for them, as :meth:`TargetScaler.decode` returns them.
            embeddings: Pooled embeddings, ``[n_val, d]``.
            n_atoms: Numbers of atoms, ``[n_val]``.
        """
        if scaler.classes is not None:
            return cls(domain)
        errors = absolute_errors(scaler, targets, predictions)
        distances = domain.relative(domain.distances(embeddings))
        known = distances, n_atoms, in_units_of_training(scaler, predictions)
        scale, ratios = fit_error_scale(errors, *known)
        return cls(domain, np.sort(ratios, axis=0), scale)

    def intervals(
        self,
        scaler: TargetScaler,
        predictions: np.ndarray,
        distances: np.ndarray,
        n_atoms: np.ndarray,
        coverage: float,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the lower and upper ends of intervals in original units, ``[n, n_targets]`` each; None for classes.

        Args:
            scaler: Target scaler of the model.
            predictions: Centers in original units, ``[n, n_targets]``.
            distances: Distances from the training crystals, ``[n]``.
            n_atoms: Numbers of atoms, ``[n]``.
            coverage: Fraction of the targets inside the intervals, between 0 and 1.
        """
        if self.ratios is None or self.scale is None:
            return None
        known = self.domain.relative(distances), n_atoms, in_units_of_training(scaler, predictions)
        radius = self.scale.expected(*known) * conformal_quantile(self.ratios, coverage)
        return intervals_about(scaler, predictions, radius)

    def write(self, folder: Path, weights_sha256: str) -> None:
        """Write ``calibration.safetensors`` beside the weights with this checksum."""
        with replacing(folder / CALIBRATION_FILE) as temporary:
            temporary.write_bytes(self.to_bytes(weights_sha256))

    def to_bytes(self, weights_sha256: str) -> bytes:
        """Return the content of the file."""
        from safetensors.numpy import save

        # Bytes as a tensor, because safetensors does not keep the order of its metadata.
        names = np.frombuffer(json.dumps(self.domain.crystals).encode(), dtype=np.uint8)
        tensors = {EMBEDDINGS: self.domain.embeddings, DISTANCES: self.domain.validation_distances, CRYSTALS: names}
        if self.ratios is not None and self.scale is not None:
            scale = self.scale
            tensors |= {RATIOS: self.ratios, COEFFICIENTS: scale.coefficients}
            tensors |= {N_ATOMS: scale.n_atoms, PREDICTIONS: scale.predictions}
        return save(tensors, metadata={WEIGHTS: weights_sha256})


def read_calibration(folder: Path, weights_sha256: str, scaler: TargetScaler, width: int) -> Calibration | None:
    """Read the calibration in a model folder; None if there is none, as for converted models.

    Args:
        folder: Model folder.
        weights_sha256: Checksum of the weights.
        scaler: Target scaler of the model.
        width: Size of the embeddings.

    Raises:
        ModelFolderError: The file is damaged or belongs to other weights.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is damaged: {brief(error)}; copy the model folder again") from error
    if metadata.get(WEIGHTS) != weights_sha256:
        raise ModelFolderError(
            f"{path} belongs to another model than the weights beside it; copy the model folder again, or delete this "
            "file to predict without intervals"
        )

    found = {name: tensor.shape for name, tensor in tensors.items()}
    n_kept, n_val, n_bytes = ((*found.get(name, ()), 0)[0] for name in (EMBEDDINGS, DISTANCES, CRYSTALS))
    expected = {EMBEDDINGS: (n_kept, width), DISTANCES: (n_val,), CRYSTALS: (n_bytes,)}
    if scaler.classes is None:
        expected |= {RATIOS: (n_val, scaler.n_targets), COEFFICIENTS: (scaler.n_targets, 4)}
        expected |= {N_ATOMS: (2,), PREDICTIONS: (scaler.n_targets, 2)}
    if found != expected or 0 in (n_kept, n_val, n_bytes):
        raise ModelFolderError(f"{path} is damaged: it holds {found}, expected {expected}; copy the model folder again")
    if not np.isfinite(tensors[EMBEDDINGS]).all():
        raise ModelFolderError(f"{path} is damaged: an embedding is not finite; copy the model folder again")
    try:
        crystals = TypeAdapter(list[TrainingCrystal]).validate_json(tensors[CRYSTALS].tobytes())
    except ValidationError:
        crystals = []
    if len(crystals) != n_kept:
        raise ModelFolderError(
            f"{path} is damaged: {CRYSTALS} does not name {n_kept} training crystals; copy the model folder again"
        )
    domain = Domain(tensors[EMBEDDINGS], tensors[DISTANCES], crystals)
    if scaler.classes is not None:
        return Calibration(domain)
    return Calibration(
        domain, tensors[RATIOS], ErrorScale(tensors[COEFFICIENTS], tensors[N_ATOMS], tensors[PREDICTIONS])
    )


def absolute_errors(scaler: TargetScaler, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return absolute errors in the units of training, ``[n, n_targets]``.

    Args:
        scaler: Target scaler of the model.
        targets: Targets in original units, ``[n, n_targets]``.
        predictions: Predictions in original units, ``[n, n_targets]``.
    """
    return np.abs(in_units_of_training(scaler, targets) - in_units_of_training(scaler, predictions))


def in_units_of_training(scaler: TargetScaler, values: np.ndarray) -> np.ndarray:
    """Return the logarithms of values if the network is trained on these, otherwise the values."""
    return np.log10(values) if scaler.transform == "log10" else values


def intervals_about(scaler: TargetScaler, predictions: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of intervals in original units, ``[n, n_targets]`` each.

    Args:
        scaler: Target scaler of the model.
        predictions: Centers in original units, ``[n, n_targets]``.
        radius: Half-widths in the units of training, ``[n, n_targets]``.
    """
    center = in_units_of_training(scaler, predictions)
    lower, upper = center - radius, center + radius
    if scaler.transform == "log10":
        lower, upper = 10**lower, 10**upper
    # No training target is lost by this, and a modulus or a band gap below 0 would be absurd.
    lowest = np.array([-np.inf if value is None else value for value in scaler.lowest or (None,)])
    return np.minimum(np.maximum(lower, lowest), predictions), np.maximum(upper, lowest)  # with its own prediction


def conformal_quantile(errors: np.ndarray, coverage: float) -> np.ndarray:
    """Return the bound that the error of a new crystal stays below with probability ``coverage``.

    Args:
        errors: Errors of other crystals, or their ratios to expected errors, ascending for each target, NaN at the end
            where missing, ``[n, n_targets]``.
        coverage: Fraction of the targets inside the intervals, between 0 and 1.

    Returns:
        The error of rank ``ceil((n + 1) coverage)``, with n the errors of a target, ``[n_targets]``; inf if there are
        fewer errors than that.
    """
    fraction = coverage_fraction(coverage)
    bounds = np.full(errors.shape[1], np.inf)
    for column, n_errors in enumerate((~np.isnan(errors)).sum(axis=0).tolist()):
        # n + 1 instead of n makes the coverage hold for any finite n (Lei et al., algorithm 2).
        rank = math.ceil((n_errors + 1) * fraction)
        if rank <= n_errors:
            bounds[column] = errors[rank - 1, column]
    return bounds


def fewest_errors(coverage: float) -> int:
    """Return the smallest number of errors for which intervals are finite."""
    fraction = coverage_fraction(coverage)
    return math.ceil(fraction / (1 - fraction))


def coverage_fraction(coverage: float) -> Fraction:
    """Return a coverage as an exact fraction, with which ranks are not off by one through rounding.

    Raises:
        InputError: It is not between 0 and 1.
    """
    fraction = Fraction(float(coverage)).limit_denominator(FINEST) if 0 < coverage < 1 else Fraction(0)
    if not 0 < fraction < 1:
        raise InputError(f"coverage is {coverage:g}; expected a number between 0 and 1, by a millionth at least")
    return fraction
