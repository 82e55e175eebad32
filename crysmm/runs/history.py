"""Epochs of a run: what is kept of them while it trains, and the file ``history.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from crysmm.errors import InputError
from crysmm.files import write_csv_atomic


@dataclass
class History:
    """Completed epochs, and the weights of the best.

    Args:
        epochs: One row per epoch, as in ``history.csv``.
        best_epoch: Number of the best epoch, from 1; 0 if none is complete.
        best_value: Monitored metric of the best epoch; infinity if it never was a number.
        best_weights: Weights of the network in the best epoch.
        n_before: Number of epochs before the present schedule of the learning rate: 0 unless the run was extended.
        seconds: Seconds that the run had taken when the last epoch was complete, over all its sessions.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    n_before: int = 0
    seconds: float = 0.0

    def add(self, row: dict[str, float], value: float, network: nn.Module) -> None:
        """Add an epoch, and keep the weights of the network if it is the best so far.

        Args:
            row: Numbers of the epoch.
            value: Monitored metric; smaller is better.
            network: Network after the epoch.
        """
        self.epochs.append(row)
        if value < self.best_value or not self.best_weights:
            self.best_epoch = len(self.epochs)
            self.best_value = value if math.isfinite(value) else math.inf
            self.best_weights = {name: tensor.cpu().clone() for name, tensor in network.state_dict().items()}


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write ``history.csv``: one row per epoch, in full precision."""
    write_csv_atomic(path, list(history[0]), (list(row.values()) for row in history))


def read_history(path: Path) -> list[dict[str, float]]:
    """Read a ``history.csv``.

    Raises:
        InputError: The file is damaged, or cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
        return [{**row, "epoch": int(row["epoch"])} for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); begin the run again with --overwrite") from error
