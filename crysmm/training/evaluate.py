"""The end of a run: predictions of every split from the best weights, and what is written of them."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from crysmm.config.training import TrainingConfig
from crysmm.data.loader import Share
from crysmm.inference import Inference
from crysmm.models.heads import PropertyNetwork
from crysmm.terminal import disables_bar
from crysmm.training.checkpoint import save_model
from crysmm.training.data import SPLITS, TrainingData, loader_for, sampler_for
from crysmm.training.distributed import gather
from crysmm.training.folder import RunFolder
from crysmm.training.metrics import Metrics, evaluate
from crysmm.training.model_folder import reference_rows
from crysmm.training.plots import plot_parity
from crysmm.training.results import write_predictions

Predictions = dict[str, np.ndarray]


def predict_splits(
    network: PropertyNetwork, data: TrainingData, config: TrainingConfig, trainer: pl.Trainer
) -> Predictions:
    """Predictions of every split that is not empty, computed by all processes together.

    Args:
        network: with the weights to use.
        data: the crystals.
        config: batch sizes are read.
        trainer: knows the processes and their devices.

    Returns:
        By split what :class:`Inference` predicts, in the order of the split's rows; in every process.
    """
    inference = Inference(network, data.scaler, trainer.strategy.root_device)
    splits = [split for split in SPLITS if data.rows(split)]
    n_crystals = sum(len(data.rows(split)) for split in splits)
    hidden = disables_bar(config.progress and trainer.is_global_zero)
    predictions = {}
    with tqdm(total=n_crystals, desc="predicting", unit=" crystals", disable=hidden, leave=False) as bar:
        for split in splits:
            sampler = sampler_for(data, split, config, trainer)
            mine = _predict(inference, loader_for(data, sampler, config, trainer), bar)
            by_row = {row: values for part in gather(trainer, mine) for row, values in part.items()}
            predictions[split] = np.stack([by_row[row] for row in data.rows(split)])
    return predictions


def _predict(inference: Inference, loader: DataLoader[Any], bar: tqdm[Any]) -> dict[int, np.ndarray]:
    """This process' predictions by row of the store."""
    predictions: dict[int, np.ndarray] = {}
    share: Share
    for share in loader:
        if share.n_crystals:
            predictions.update(zip(share.rows.tolist(), inference.predict(share.batch), strict=True))
        bar.update(share.n_crystals)
    return predictions


def write_results(
    folder: RunFolder, network: PropertyNetwork, data: TrainingData, config: TrainingConfig, predictions: Predictions
) -> dict[str, Metrics]:
    """Write the model, the tables of predictions and the parity plot.

    Returns:
        The metrics of each split.
    """
    names = data.store.target_names
    references = reference_rows(data.rows("train"), data.store.n_atoms)
    save_model(
        folder.path,
        network,
        config,
        data.scaler,
        target_names=names,
        elements=data.elements,
        references=[data.store.crystal(row) for row in references],
        texts=None if data.texts is None else data.texts.take(references),
    )
    metrics = {}
    for split, predicted in predictions.items():
        targets = data.targets(split)
        write_predictions(folder.predictions(split), data.ids(split), targets, predicted, data.scaler, names)
        metrics[split] = evaluate(data.scaler, targets, predicted, data.targets("train"), names)
    shown = {split: (data.targets(split), predicted) for split, predicted in predictions.items() if split != "train"}
    plot_parity(folder.parity_plot, shown, data.scaler, names)
    return metrics
