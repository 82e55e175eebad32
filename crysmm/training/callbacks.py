"""What happens around the epochs: the history, the best weights, the checkpoint, and the ways to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from crysmm.errors import DivergedError, InputError
from crysmm.files import write_csv_atomic
from crysmm.runs.run_folder import RunFolder
from crysmm.signals import listen
from crysmm.training.module import TrainingModule
from crysmm.training.progress import Progress

TIME_AFTER_TRAINING = 0.5  # of an epoch: kept free of max_hours for the predictions of every split


def share_of_hours(max_hours: float | None, started: float, n_left: int) -> float | None:
    """Hours of one of several trainings: what is left of those for all, shared out among the trainings left.

    Args:
        max_hours: for all, or None for no limit.
        started: when the first began, by ``time.monotonic``.
        n_left: trainings that are left, this one included.
    """
    if max_hours is None:
        return None
    return max(0.0, max_hours - (time.monotonic() - started) / 3600) / n_left


class OutOfTimeError(Exception):
    """``max_hours`` ended within an epoch."""


class Recorder(Checkpoint):
    """Keeps the history and the best weights, and writes all that resuming needs after every epoch.

    It is a Lightning ``Checkpoint`` because those are called last, when the epoch is over for everyone else. Best
    weights, optimiser, schedule and history stand in one file, so that no crash can leave them in disagreement.

    Args:
        folder: where checkpoint and history go.
        patience: stop after so many epochs without a better one; ``None`` never stops.
        progress: is told the result of every epoch.

    Attributes:
        history: one row an epoch.
        best_epoch: from 1; 0 before the first.
        best_value: of the objective's monitored measure.
        best_weights: of the network, in the best epoch.
    """

    def __init__(self, folder: RunFolder, patience: int | None, progress: Progress):
        self.folder = folder
        self.patience = patience
        self.progress = progress
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_value = math.inf
        self.best_weights: dict[str, Tensor] = {}
        self._started = 0.0

    @property
    def state_key(self) -> str:
        """Where the state stands among those of Lightning's callbacks."""
        return "recorder"

    @property
    def lost_patience(self) -> bool:
        """Whether early stopping has come."""
        return self.patience is not None and len(self.history) - self.best_epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and tensors."""
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from another recorder's state."""
        self.history = state["history"]
        self.best_epoch = state["best_epoch"]
        self.best_value = state["best_value"]
        self.best_weights = state["best_weights"]

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the time."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add the epoch's row, keep its weights if it is the best, and write the checkpoint.

        Raises:
            DivergedError: the loss is no longer a number.
        """
        assert isinstance(module, TrainingModule)
        row: dict[str, float] = {
            "epoch": len(self.history) + 1,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            **module.means(),
            "seconds": time.monotonic() - self._started,
        }
        if not math.isfinite(row["train_loss"]):
            raise DivergedError(
                f"training has diverged: the loss of epoch {row['epoch']} is {row['train_loss']}; begin again with a "
                f"learning_rate lower than {module.config.learning_rate:g}{_or_more_digits(trainer)}"
            )
        self.history.append(row)
        self._keep_if_best(row, module)
        trainer.save_checkpoint(self.folder.checkpoint)
        if trainer.is_global_zero:
            write_history(self.folder.history, self.history)
        self.progress.tell_epoch(self.history, self.best_epoch, module)
        if self.lost_patience:
            trainer.should_stop = True

    def _keep_if_best(self, row: Mapping[str, float], module: TrainingModule) -> None:
        value = row[f"val_{module.objective.monitor}"]
        if value < self.best_value or not self.best_weights:
            self.best_epoch = int(row["epoch"])
            self.best_value = value if math.isfinite(value) else math.inf
            weights = module.objective.network.state_dict()
            self.best_weights = {name: tensor.cpu().clone() for name, tensor in weights.items()}


def _or_more_digits(trainer: pl.Trainer) -> str:
    return " or with --precision 32" if trainer.precision == "bf16-mixed" else ""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A run's resume checkpoint, read as data: no code in it is run.

    Raises:
        InputError: the file is damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content["callbacks"]["recorder"]["best_weights"]
        return content
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, ValueError, UnpicklingError) as error:
        raise InputError(f"the checkpoint {path} is damaged ({error}); begin again with --overwrite") from error


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """``history.csv``: one row an epoch, full precision."""
    write_csv_atomic(path, list(history[0]), (list(row.values()) for row in history))


class TimeLimit(pl.Callback):
    """Stops training in time for the predictions of the best epoch.

    Args:
        deadline: in seconds of ``time.monotonic``; infinity never comes.

    Attributes:
        reached: whether it has stopped training.
    """

    def __init__(self, deadline: float):
        self.deadline = deadline
        self.reached = False
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the time."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave an epoch that cannot be finished; what it has done is lost.

        Raises:
            OutOfTimeError: the time is over.
        """
        if self._is_over(trainer, 0.0):
            raise OutOfTimeError

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin no epoch that could not be finished."""
        if self._is_over(trainer, (1 + TIME_AFTER_TRAINING) * (time.monotonic() - self._started)):
            trainer.should_stop = True

    def _is_over(self, trainer: pl.Trainer, seconds_needed: float) -> bool:
        if math.isinf(self.deadline):
            return False  # saves asking the other processes
        over = time.monotonic() + seconds_needed > self.deadline
        self.reached = bool(trainer.strategy.reduce_boolean_decision(over, all=False))
        return self.reached


class SignalListener(pl.Callback):
    """Puts our signal handlers back where Lightning has put its own."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Lightning's handlers are in place by now."""
        listen()
