"""Predictions for every split by a trained network, computed by all processes of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crysmm.config.training import TrainingConfig
from crysmm.data.loader import Share
from crysmm.inference.domain import rows_to_keep
from crysmm.inference.frozen_network import Inference, Outputs
from crysmm.models.networks import PropertyNetwork
from crysmm.processes import Processes
from crysmm.progress import progress_bar
from crysmm.runs.data import TrainingData
from crysmm.runs.run_folder import SPLITS
from crysmm.runs.run_writer import SplitOutputs
from crysmm.training.prepare import loader_for, sampler_for


class RowValues:
    """Numbers for some rows of a store, collected batch by batch.

    The array is allocated once: pieces kept from each batch would lie between the freed memory of the batches and
    fragment it.

    Args:
        rows: Store rows to collect.
        width: Number of values per row.
        n_rows: Number of rows in the store.
    """

    def __init__(self, rows: Sequence[int], width: int, n_rows: int):
        self._places = np.full(n_rows, -1)
        self._places[rows] = np.arange(len(rows))
        self._values = np.full((len(rows), width), np.nan)
        self._is_there = np.zeros(len(rows), dtype=bool)

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Store values, ``[n, width]``, of rows; those of rows that are not collected are ignored."""
        places = self._places[rows]
        collected = places >= 0
        self._values[places[collected]] = values[collected]
        self._is_there[places[collected]] = True

    def gathered(self, processes: Processes) -> np.ndarray:
        """Return the values of all processes, ``[len(rows), width]``; NaN in rows that no process has stored."""
        mine = np.flatnonzero(self._is_there)
        for places, values in processes.gather((mine, self._values[mine])):
            self._values[places] = values
        return self._values


def predict_splits(
    network: PropertyNetwork, data: TrainingData, config: TrainingConfig, processes: Processes
) -> SplitOutputs:
    """Compute predictions and embeddings for every split that is not empty.

    Args:
        network: Network with the weights to use.
        data: Crystals with their split.
        config: Settings; batch sizes are read.
        processes: Processes that share the work.

    Returns:
        Outputs by split, in the order of the split's rows, in every process.
    """
    inference = Inference(network, data.scaler, processes.device)
    splits = [split for split in SPLITS if data.rows(split)]
    n_crystals = sum(len(data.rows(split)) for split in splits)
    shown = config.progress and processes.is_first
    outputs = {}
    with progress_bar("predicting", n_crystals, "crystals", shown=shown, leave=False) as bar:
        for split in splits:
            rows = data.rows(split)
            embedded = rows_to_keep(rows) if split == "train" else rows
            sampler = sampler_for(data, split, config, processes)
            predictions = RowValues(rows, data.scaler.n_outputs, len(data.store))
            embeddings = RowValues(embedded, network.backbone.node_features, len(data.store))
            share: Share
            for share in loader_for(data, sampler, config, processes):
                if share.n_crystals:
                    found = inference.outputs(share.batch)
                    predictions.put(share.rows, found.predictions)
                    embeddings.put(share.rows, found.embeddings)
                bar.update(share.n_crystals)
            outputs[split] = Outputs(predictions.gathered(processes), embeddings.gathered(processes))
    return outputs
