"""The end of a run: predictions of every split from the best weights, and what is written of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
from tqdm import tqdm

from crysmm.config.training import TrainingConfig
from crysmm.data.loader import Share
from crysmm.elements import elements_in
from crysmm.files import disables_bar
from crysmm.inference import COVERAGE
from crysmm.inference.assessment import Assessment, Assessor
from crysmm.inference.domain import Domain, TrainingCrystal, rows_to_keep
from crysmm.inference.frozen_network import Inference, Outputs
from crysmm.inference.intervals import Calibration
from crysmm.inference.model_folder import reference_rows
from crysmm.inference.prediction_table import write_predictions
from crysmm.inference.saved_models import save_model
from crysmm.models.networks import PropertyNetwork
from crysmm.runs.data import SPLITS, TrainingData
from crysmm.runs.metrics import Metrics, evaluate, judge
from crysmm.runs.plots import plot_parity
from crysmm.runs.run_folder import RunFolder
from crysmm.training.distributed import gather
from crysmm.training.prepare import loader_for, sampler_for

SplitOutputs = dict[str, Outputs]
"""By split; of the training split, embeddings are there of :func:`rows_to_keep` alone."""


class RowValues:
    """Some numbers for each of some rows of a store, put down batch by batch.

    The array is made once: were a part of each batch kept, it would lie between what is freed of the batches, whose
    room larger ones could then not have.

    Args:
        rows: which of the store's.
        width: numbers of a row.
        n_rows: of the store.
    """

    def __init__(self, rows: Sequence[int], width: int, n_rows: int):
        self._places = np.full(n_rows, -1)
        self._places[rows] = np.arange(len(rows))
        self._values = np.full((len(rows), width), np.nan)
        self._is_there = np.zeros(len(rows), dtype=bool)

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Put down ``[n, width]`` values; those of rows not asked for are left out."""
        places = self._places[rows]
        asked = places >= 0
        self._values[places[asked]] = values[asked]
        self._is_there[places[asked]] = True

    def of_all(self, trainer: pl.Trainer) -> np.ndarray:
        """``[len(rows), width]`` in the order of the rows, from all processes, in each; NaN where none has any."""
        mine = np.flatnonzero(self._is_there)
        for places, values in gather(trainer, (mine, self._values[mine])):
            self._values[places] = values
        return self._values


@dataclass(frozen=True)
class Judgement:
    """What a model has come to on each split: its metrics, and the assessment of each crystal."""

    metrics: dict[str, Metrics]
    assessments: dict[str, Assessment]


def predict_splits(
    network: PropertyNetwork, data: TrainingData, config: TrainingConfig, trainer: pl.Trainer
) -> SplitOutputs:
    """Predictions and embeddings of every split that is not empty, computed by all processes together.

    Args:
        network: with the weights to use.
        data: the crystals.
        config: batch sizes and the seed are read.
        trainer: knows the processes and their devices.

    Returns:
        By split what :class:`Inference` gives out, in the order of the split's rows; in every process.
    """
    inference = Inference(network, data.scaler, trainer.strategy.root_device)
    splits = [split for split in SPLITS if data.rows(split)]
    n_crystals = sum(len(data.rows(split)) for split in splits)
    hidden = disables_bar(config.progress and trainer.is_global_zero)
    outputs = {}
    with tqdm(total=n_crystals, desc="predicting", unit=" crystals", disable=hidden, leave=False) as bar:
        for split in splits:
            rows = data.rows(split)
            embedded = rows_to_keep(rows, config.random_seed) if split == "train" else rows
            sampler = sampler_for(data, split, config, trainer)
            predictions = RowValues(rows, data.scaler.n_outputs, len(data.store))
            embeddings = RowValues(embedded, network.backbone.node_features, len(data.store))
            share: Share
            for share in loader_for(data, sampler, config, trainer):
                if share.n_crystals:
                    found = inference.outputs(share.batch)
                    predictions.put(share.rows, found.predictions)
                    embeddings.put(share.rows, found.embeddings)
                bar.update(share.n_crystals)
            outputs[split] = Outputs(predictions.of_all(trainer), embeddings.of_all(trainer))
    return outputs


def write_results(
    folder: RunFolder, network: PropertyNetwork, data: TrainingData, config: TrainingConfig, outputs: SplitOutputs
) -> Judgement:
    """Write the model with its calibration, the tables of predictions and the parity plot.

    Returns:
        What has been said of each split.
    """
    references = reference_rows(data.rows("train"), data.store.n_atoms)
    checksum = save_model(
        folder.path,
        network,
        config,
        data.scaler,
        target_names=data.store.target_names,
        elements=data.elements,
        references=[data.store.crystal(row) for row in references],
        texts=None if data.texts is None else data.texts.take(references),
    )
    return write_judged(folder, checksum, data, config, outputs)


def write_judged(
    folder: RunFolder, checksum: str, data: TrainingData, config: TrainingConfig, outputs: SplitOutputs
) -> Judgement:
    """Calibrate on the validation split, and write what the model has come to on all of them.

    Intervals and distances are written of the test split alone: the network has learned from the training crystals,
    and the intervals are made to hold the validation crystals.

    Args:
        folder: of the run.
        checksum: of the model's weights.
        data: the crystals.
        config: the seed is read.
        outputs: of the model.

    Returns:
        What has been said of each split.
    """
    scaler, names = data.scaler, data.store.target_names
    metrics = {
        split: evaluate(scaler, data.targets(split), of_split.predictions, data.targets("train"), names)
        for split, of_split in outputs.items()
    }
    train, val = outputs["train"], outputs["val"]
    kept = rows_to_keep(data.rows("train"), config.random_seed)
    crystals = [TrainingCrystal(data.store.ids[row], data.store.formulas[row]) for row in kept]
    domain = Domain.fit(train.embeddings, crystals, val.embeddings)
    calibration = Calibration.fit(scaler, domain, data.targets("val"), val.predictions, val.embeddings)
    calibration.write(folder.path, checksum)
    assessor = Assessor(scaler, data.elements, calibration, COVERAGE)
    assessments = {}
    for split, of_split in outputs.items():
        targets = data.targets(split)
        assessment = Assessment(of_split.predictions, of_split.spread)
        if split == "test":
            formulas = [data.store.formulas[row] for row in data.rows(split)]
            assessment = assessor.assess(of_split, [elements_in([formula]) for formula in formulas])
            metrics[split] |= judge(assessment, targets, names, len(val.predictions))
        assessments[split] = assessment
        write_predictions(folder.predictions(split), data.ids(split), targets, assessment, scaler, names)
    shown = {split: (data.targets(split), outputs[split].predictions) for split in outputs if split != "train"}
    plot_parity(folder.parity_plot, shown, scaler, names)
    return Judgement(metrics, assessments)
