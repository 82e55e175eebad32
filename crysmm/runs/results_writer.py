"""Writing the results of a run that is trained on labels: the model, its calibration and its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crysmm.config.training import TrainingConfig
from crysmm.elements import elements_in
from crysmm.inference import COVERAGE
from crysmm.inference.assessment import Assessment, Assessor
from crysmm.inference.domain import Domain, TrainingCrystal, rows_to_keep
from crysmm.inference.frozen_network import Outputs
from crysmm.inference.intervals import Calibration
from crysmm.inference.model_folder import reference_rows
from crysmm.inference.prediction_table import write_predictions
from crysmm.inference.saved_models import save_model, write_ensemble
from crysmm.models.networks import PropertyNetwork
from crysmm.runs.data import TrainingData
from crysmm.runs.metrics import Metrics, evaluate, evaluate_assessment
from crysmm.runs.plots import plot_parity
from crysmm.runs.run_writer import RunWriter, in_first_process

SplitOutputs = dict[str, Outputs]
"""Outputs by split; in the training split, embeddings are kept for :func:`rows_to_keep` only."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on each split, and the assessment of each prediction."""

    metrics: dict[str, Metrics]
    assessments: dict[str, Assessment]


class ResultsWriter(RunWriter):
    """Writer for runs that are trained on labels."""

    config: TrainingConfig

    @in_first_process
    def save_network(self, network: PropertyNetwork, data: TrainingData) -> str:
        """Write the model and return the checksum of its weights."""
        references = reference_rows(data.rows("train"), data.store.n_atoms)
        return save_model(
            self.folder.path,
            network,
            self.config,
            data.scaler,
            target_names=data.store.target_names,
            elements=data.elements,
            references=[data.store.crystal(row) for row in references],
            texts=None if data.texts is None else data.texts.take(references),
        )

    @in_first_process
    def save_ensemble(self, members: Sequence[Path]) -> str:
        """Write the list of an ensemble's members and return the checksum of their weights."""
        return write_ensemble(self.folder.path, members)

    @in_first_process
    def write_evaluation(self, checksum: str, data: TrainingData, outputs: SplitOutputs) -> Evaluation:
        """Calibrate on the validation split, and write the predictions for all splits and the parity plot.

        Only the test split gets intervals and distances: the network has seen the training crystals, and the
        intervals are fitted to the validation crystals.

        Args:
            checksum: Checksum of the model's weights.
            data: Crystals with their targets.
            outputs: Outputs of the model by split.
        """
        scaler, names = data.scaler, data.store.target_names
        metrics = {
            split: evaluate(scaler, data.targets(split), found.predictions, data.targets("train"), names)
            for split, found in outputs.items()
        }
        train, val = outputs["train"], outputs["val"]
        kept = rows_to_keep(data.rows("train"), self.config.random_seed)
        crystals = [TrainingCrystal(data.store.ids[row], data.store.formulas[row]) for row in kept]
        domain = Domain.fit(train.embeddings, crystals, val.embeddings)
        calibration = Calibration.fit(scaler, domain, data.targets("val"), val.predictions, val.embeddings)
        calibration.write(self.folder.path, checksum)
        assessor = Assessor(scaler, data.elements, calibration, COVERAGE)
        n_validation = (~np.isnan(data.targets("val"))).sum(axis=0)
        assessments = {}
        for split, found in outputs.items():
            targets = data.targets(split)
            assessment = Assessment(found.predictions, found.spread)
            if split == "test":
                formulas = [data.store.formulas[row] for row in data.rows(split)]
                assessment = assessor.assess(found, [elements_in([formula]) for formula in formulas])
                metrics[split] |= evaluate_assessment(assessment, targets, names, n_validation)
            assessments[split] = assessment
            write_predictions(self.folder.predictions(split), data.ids(split), targets, assessment, scaler, names)
        shown = {split: (data.targets(split), outputs[split].predictions) for split in outputs if split != "train"}
        plot_parity(self.folder.parity_plot, shown, scaler, names)
        return Evaluation(metrics, assessments)
