"""Scikit-learn estimator: structures in, properties out, for pipelines, cross-validation and searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError

from crysmm.config.loading import make_config
from crysmm.config.training import TrainingConfig
from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, StructureError
from crysmm.inference.predictor import as_list, load
from crysmm.io.inputs import StructuresSource, unusable_structure
from crysmm.io.source import StrictError
from crysmm.runs.run_log import not_printed
from crysmm.training.train import train


class CrystalRegressor(RegressorMixin, BaseEstimator):
    """Regressor of crystal properties with the interface of scikit-learn.

    ::

        cross_val_score(CrystalRegressor("cgcnn", epochs=50), structures, y, scoring="neg_mean_absolute_error")

    Structures are those that :meth:`crysmm.Predictor.predict` takes. Each fit trains a network (or ``ensemble``) as
    :func:`crysmm.train` does, chooses the epoch on a fraction of the crystals, and keeps no test split.

    Args:
        model: Backbone, or its settings as a dict with its ``name``.
        epochs: Number of passes over the training crystals.
        batch_size: Number of crystals per training step.
        learning_rate: Maximum learning rate; None for that of the backbone.
        val_ratio: Fraction of the crystals that the epoch is chosen on, at least one crystal.
        ensemble: Number of networks whose mean predicts.
        random_state: Seed of the split, the weights and the order of the crystals.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        settings: Further settings of :class:`crysmm.TrainingConfig` by name.
        output_dir: Folder to keep the run in; by default it is deleted after training.
        verbose: True to print what ``crysmm train`` prints.

    Attributes:
        predictor_: Predictor of the trained model, with intervals, embeddings and distances.
        metrics_: Content of the run's ``metrics.json``.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] = "cgcnn",
        *,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float | None = None,
        val_ratio: float = 0.1,
        ensemble: int = 1,
        random_state: int = 123,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
        output_dir: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.val_ratio = val_ratio
        self.ensemble = ensemble
        self.random_state = random_state
        self.device = device
        self.settings = settings
        self.output_dir = output_dir
        self.verbose = verbose

    def fit(self, structures: Sequence[Any], y: Any) -> Self:
        """Train on structures and their targets, ``[n]`` or ``[n, n_targets]``.

        Raises:
            InputError: A setting is invalid, there is not one row of targets per structure, or a target is not finite.
            StructureError: A structure cannot be used; the message has its number, counted from 0.
        """
        if getattr(structures, "ndim", 1) > 1:
            raise InputError(
                f"the structures are a table of {type(structures).__name__}; give its column of structures alone"
            )
        structures = as_list(structures)
        try:
            targets = np.asarray(y, dtype=float)
        except (TypeError, ValueError) as error:
            raise InputError(f"the targets are not numbers: {error}") from error
        if not (isinstance(self.val_ratio, int | float) and 0 < self.val_ratio < 1):
            raise InputError(f"val_ratio: expected a number between 0 and 1, got {self.val_ratio!r}")
        if targets.ndim not in (1, 2) or len(targets) != len(structures):
            raise InputError(f"{len(structures)} structures need as many targets; got an array {targets.shape}")
        if not np.isfinite(targets).all():
            row = np.argwhere(~np.isfinite(targets))[0, 0]
            raise InputError(
                f"the target of structure {row} (counted from 0) is {targets[row].tolist()}; expected finite "
                "numbers; leave the structure out, or use crysmm.train, where rows may lack some of several targets"
            )
        with TemporaryDirectory(prefix="crysmm-") as temporary:
            config = make_config(TrainingConfig, self._settings(len(structures), Path(temporary)))
            if config.is_classification:
                raise InputError("CrystalRegressor predicts numbers; crysmm.train also predicts classes")
            rows = enumerate(zip(read_structures(structures), targets.tolist(), strict=True))
            records = [{"id": str(row), "atoms": crystal, "target": target} for row, (crystal, target) in rows]
            try:
                with nullcontext() if self.verbose else not_printed():
                    result = train(config, records)
            except StrictError as error:
                raise unusable_structure(error.row.id, error.row.reason) from None
            self.metrics_ = result.metrics
            self.predictor_ = load(result.folder, self.device)
        self.n_targets_ = 1 if targets.ndim == 1 else targets.shape[1]
        self._is_column = targets.ndim == 2
        return self

    def predict(self, structures: Sequence[Any]) -> np.ndarray:
        """Predict targets in their units, with the shape of those given to :meth:`fit`.

        Raises:
            NotFittedError: The estimator is not fitted.
            StructureError: A structure cannot be used; the message has its number, counted from 0.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this CrystalRegressor is not fitted yet; call fit first")
        predictions = self.predictor_.predict(as_list(structures))
        return predictions if self._is_column else predictions[:, 0]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "predictor_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.target_tags.multi_output = True
        tags.no_validation = True
        return tags

    def _settings(self, n_crystals: int, temporary: Path) -> dict[str, Any]:
        return {
            "model": self.model,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "n_val": max(1, int(self.val_ratio * n_crystals)),
            "n_test": 0,
            "ensemble": self.ensemble,
            "random_seed": self.random_state,
            "device": self.device,
            "progress": self.verbose,
            "output_dir": self.output_dir or temporary / "run",
            "cache_dir": temporary / "cache",
            "strict": True,
            **(self.settings or {}),
        }


def read_structures(structures: Sequence[Any]) -> list[Crystal]:
    """Read structures of any kind that is predicted.

    Raises:
        StructureError: One cannot be read; the message has its number, counted from 0.
    """
    crystals = []
    for row in StructuresSource(structures).rows():
        try:
            crystals.append(row.read().crystal)
        except StructureError as error:
            raise unusable_structure(row.id, str(error)) from error
    return crystals
