"""A run: read, split, train, keep the best epoch, write a folder."""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import RLock
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from crysmm.config.run import RunConfig
from crysmm.device import Machine, reproducible
from crysmm.engines.memory import keep_freed_memory
from crysmm.errors import DivergedError, InputError, NoResultError
from crysmm.objectives.objective import Objective
from crysmm.processes import Processes, lightning_silenced
from crysmm.runs.data import RunData, split_sha256
from crysmm.runs.history import History
from crysmm.runs.run_folder import ALL_EPOCHS, EARLY_STOPPING, MAX_HOURS, RunFolder
from crysmm.runs.run_log import Progress, RunLog
from crysmm.runs.run_writer import RunWriter
from crysmm.runs.summary import describe_data, describe_machine
from crysmm.signals import StopRequested, listening
from crysmm.training.trainer import OutOfTimeError, Trainer, seed_everything
from crysmm.training.transfer import FrozenWeights, copy_weights

ONE_AT_A_TIME = RLock()  # random states, signals and logs are the whole process's
FAR_WORSE = 10  # times the score of a constant; few crystals and epochs may give some times that
TIME_AFTER_TRAINING = 0.5  # epochs; time within max_hours for predicting every split

Config = TypeVar("Config", bound=RunConfig)
Data = TypeVar("Data", bound=RunData)


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Args:
        folder: Run folder.
        metrics: Contents of its ``metrics.json``.
    """

    folder: Path
    metrics: dict[str, Any]


class Run(ABC, Generic[Config, Data]):
    """One run: its steps, and the loop over its epochs.

    A subclass reads the data, creates the objective, and evaluates the weights of the best epoch.

    Args:
        config: Settings of the run.
        machine: Device and precision.
        processes: Processes that train together.

    Raises:
        InputError: No output folder is named.
    """

    writer_class: type[RunWriter] = RunWriter

    def __init__(self, config: Config, machine: Machine, processes: Processes):
        if config.output_dir is None:
            raise InputError("output_dir is not given; name the folder the run is to be written to")
        self.started = time.monotonic()
        self.config = config
        self.machine = machine
        self.processes = processes
        self.folder = RunFolder(config.output_dir)
        self.log = RunLog()
        self.writer = self.writer_class(self.folder, config, processes, self.log)
        self.history = History()
        self.seconds_before = 0.0  # of earlier sessions, once training is set up
        self.baseline_score: float | None = None  # known once training is set up

    @abstractmethod
    def prepare(self, records: Sequence[Mapping[str, Any]] | None) -> Data:
        """Read, check and split the structures."""

    @abstractmethod
    def new_objective(self, data: Data) -> Objective:
        """Create the objective, with weights drawn from torch's global random state."""

    @abstractmethod
    def baseline(self, data: Data) -> float | None:
        """Return the monitored metric without a network, or None if that would say nothing."""

    @abstractmethod
    def describe_task(self, data: Data, baseline: float | None) -> list[str]:
        """Return lines that describe the split and the task."""

    @abstractmethod
    def evaluate(self, objective: Objective, data: Data) -> dict[str, Any]:
        """Evaluate the weights of the best epoch and write the model; all processes call it.

        Returns:
            Entries of ``metrics.json``.
        """

    @abstractmethod
    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """Return lines that describe the result and how to use it."""

    def write_report(self, data: Data, metrics: Mapping[str, Any]) -> None:
        """Write ``report.html``, if this kind of run has one."""

    def n_frozen_epochs(self) -> int:
        """Return the number of epochs in which weights loaded from another model stay fixed."""
        return 0

    def go(self, records: Sequence[Mapping[str, Any]] | None) -> RunResult:
        """Carry out the whole run, or return its result if it is resumed but finished."""
        finished = self.writer.check()
        if finished is not None:
            self.log.say(f"the run in {self.folder.path} is finished; nothing is left to resume")
            return RunResult(self.folder.path, finished)
        self.machine.forget_peak_memory()  # of runs before it in this process
        data = self.prepare(records)
        self.log.say(*describe_data(data, self.folder))
        return self.train_and_evaluate(data)

    def train_and_evaluate(self, data: Data) -> RunResult:
        """Train, evaluate the best epoch, and write everything.

        Raises:
            DivergedError: No epoch had a validation score that is a number.
        """
        objective = self.fit(data)
        if math.isinf(self.history.best_value):
            raise DivergedError(
                "training has diverged: no epoch has a validation score that is a number; begin again with a "
                f"learning_rate lower than {self.config.learning_rate:g}"
            )
        if self.baseline_score and self.history.best_value > FAR_WORSE * self.baseline_score:
            self.log.say(
                f"the best validation score, {self.history.best_value:.4g}, is far worse than that without a network, "
                f"{self.baseline_score:.4g}: training went wrong; lower learning_rate ({self.config.learning_rate:g}), "
                "or look for wrong targets (crysmm check)"
            )
        objective.network.load_state_dict(self.processes.on_first(lambda: self.history.best_weights))
        scores = self.evaluate(objective, data)
        epochs, metric, baseline = self.history.epochs, objective.monitor, self.baseline_score
        circumstances = self.circumstances(data)
        # Only the MAE, which is that of a single target, has a unit.
        unit = next(iter(circumstances.get("units", {}).values()), None) if metric == "mae" else None
        self.writer.write_history(epochs, metric, baseline, unit)
        metrics = {
            **scores,
            "monitored": f"val_{metric}",
            "baseline": baseline,
            "best_epoch": self.history.best_epoch,
            "epochs": len(epochs),
            "max_epochs": self.config.epochs,
            "stopped_by": self.stopped_by(),
            "seconds": self.seconds,
            "seconds_per_epoch": fmean(row["seconds"] for row in epochs),
            "peak_memory_gib": self.machine.peak_memory(),
            **circumstances,
            "n_parameters": n_parameters(objective.network),
        }
        return self.finish(data, metrics)

    def fit(self, data: Data) -> Objective:
        """Train all epochs that remain, and return the objective; ``history`` holds the weights of the best epoch.

        Raises:
            DivergedError: The training loss is no longer a number.
            NoResultError: The time ended before the first epoch did.
        """
        config, processes = self.config, self.processes
        trainer = self._set_up(data)
        objective, n_done = trainer.objective, len(self.history.epochs)
        metric = f"val_{objective.monitor}"
        progress = Progress(self.log, config.progress, trainer.steps, objective.monitor, self.baseline_score, n_done)
        try:
            for epoch in range(n_done, config.epochs):
                if self.lost_patience:
                    break
                began = time.monotonic()
                progress.begin_epoch(epoch)
                loss = trainer.train_epoch(epoch, progress)
                if not math.isfinite(loss):
                    more_digits = " or with --precision 32" if self.machine.precision == "bf16" else ""
                    raise DivergedError(
                        f"training has diverged: the loss of epoch {epoch + 1} is {loss}; begin again with a "
                        f"learning_rate lower than {config.learning_rate:g}{more_digits}"
                    )
                scores = {f"val_{name}": value for name, value in trainer.validate().items()}
                seconds = time.monotonic() - began
                row = {
                    "epoch": epoch + 1, "learning_rate": trainer.learning_rate, "train_loss": loss,
                    **scores, "seconds": seconds,
                }  # fmt: skip
                self.history.add(row, row[metric], objective.network)
                self.history.seconds = self.seconds
                state = {"data": data.fingerprint, "trainer": trainer.state_dict(), "history": vars(self.history)}
                self.writer.save_checkpoint(state, self.history.epochs)
                progress.end_epoch(self.history.epochs, self.history.best_epoch)
                # No epoch begins that would leave no time to predict every split.
                needed = (1 + TIME_AFTER_TRAINING) * seconds
                if math.isfinite(trainer.deadline) and processes.any(time.monotonic() + needed > trainer.deadline):
                    break
        except OutOfTimeError:
            if not self.history.epochs:
                raise NoResultError(
                    f"max_hours {config.max_hours:g} ended before the first epoch did, so there is no result; "
                    "give more time"
                ) from None
        finally:
            progress.close()
        return objective

    def _set_up(self, data: Data) -> Trainer:
        """Create objective, trainer and folder, and restore the state of a run that is to be resumed."""
        config, processes = self.config, self.processes
        seed_everything(config.random_seed)
        objective = self.new_objective(data)
        frozen = FrozenWeights()
        if config.init_from is not None:
            copied = copy_weights(objective.network, config.model.name, config.init_from)
            self.log.say(copied.text())
            frozen = FrozenWeights.of(objective.network, copied.loaded, self.n_frozen_epochs())
        self.log.say(describe_machine(config, self.machine, n_parameters(objective.network), processes.count))
        self.baseline_score = self.baseline(data)
        self.log.say(*self.describe_task(data, self.baseline_score))

        checkpoint, finished = self.writer.checkpoint_to_resume(data), self.writer.run_to_extend(data)
        if checkpoint is not None:
            self.history = History(**checkpoint["history"])
        elif finished is not None:
            self.history = finished
            objective.network.load_state_dict(finished.best_weights)
        self.seconds_before = self.history.seconds
        deadline = self.started + 3600 * (math.inf if config.max_hours is None else config.max_hours)
        trainer = Trainer(objective, data, config, self.machine, processes, frozen, deadline, self.history.n_before)
        self.writer.open(data, self.machine.versions(), is_new=checkpoint is None and finished is None)
        if checkpoint is not None:
            trainer.load_state_dict(checkpoint["trainer"])
            self.log.say(f"resuming after epoch {len(self.history.epochs)} of {config.epochs}")
        elif finished is not None:
            self.log.say(
                f"extending the finished run from {finished.n_before} to {config.epochs} epochs: from the weights of "
                f"its best epoch, {finished.best_epoch}, with a new optimizer and a new schedule of the learning rate"
            )
        return trainer

    def finish(self, data: Data, metrics: dict[str, Any]) -> RunResult:
        """Write the report, the card and the metrics, and describe the result."""
        metrics = self.writer.finish(metrics, lambda: self.write_report(data, metrics))
        self.log.say(*self.describe_result(metrics))
        return RunResult(self.folder.path, metrics)

    def what_is_kept(self) -> str:
        """Describe what a stop leaves in the folder."""
        if self.writer.is_open and self.folder.is_finished:
            had_epochs = self.folder.read_metrics().get("max_epochs")  # none for a Gaussian process
            is_extended = had_epochs is not None and had_epochs < self.config.epochs
            return f"the run {'before is as it was' if is_extended else 'is finished'}: {self.folder.path}"
        if self.config.overwrite and not self.writer.is_open:
            return f"nothing has been written, and {self.folder.path} is as it was"
        if self.folder.has_checkpoint:
            return "give the same command and --resume to go on after the last whole epoch"
        return "no epoch was complete, so nothing is kept"

    def circumstances(self, data: Data) -> dict[str, Any]:
        """Return the entries of ``metrics.json`` about machine and data."""
        return {
            "device": str(self.machine.device),
            "precision": self.machine.precision,
            "n_processes": self.processes.count,
            "n_crystals": len(data.store),
            "n_skipped": len(data.skipped),
            "data_sha256": data.fingerprint,
            "split_sha256": split_sha256(data.store, data.split),
        }

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken so far, over all its sessions."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def lost_patience(self) -> bool:
        """True if early stopping ends the run."""
        patience, history = self.config.n_early_stopping, self.history
        return patience is not None and len(history.epochs) - max(history.best_epoch, history.n_before) >= patience

    def stopped_by(self) -> str:
        """Return why training ended."""
        if len(self.history.epochs) == self.config.epochs:
            return ALL_EPOCHS
        return EARLY_STOPPING if self.lost_patience else MAX_HOURS


def carry_out(
    kind: Callable[[Config, Machine, Processes], Run[Config, Data]],
    config: Config,
    records: Sequence[Mapping[str, Any]] | None,
) -> RunResult:
    """Create a run and carry it out, without side effects on the caller's random states, signals and logs.

    A run in another thread of the process waits until it is done.

    Raises:
        InputError: The settings, the input or the output folder cannot be used; nothing has been written.
        KeyboardInterrupt: Ctrl-C; the folder holds what resuming needs. SIGTERM raises ``SystemExit`` likewise.
    """
    machine = Machine.of(config)
    with (
        ONE_AT_A_TIME,
        isolated_random_states(),
        lightning_silenced(),
        reproducible(machine.device),
        keep_freed_memory(machine.device),
    ):
        processes = Processes(config, machine)
        run = kind(config, machine, processes)
        with listening():  # until all is cleaned up, which a second Ctrl-C must not disturb
            try:
                processes.connect()
                return run.go(records)
            except StopRequested as stop:
                processes.kill()
                run.log.say(f"stopped by {stop.name}: {run.what_is_kept()}")
                raise stop.exit_error(processes.is_first) from None
            finally:
                run.log.close()


@contextmanager
def isolated_random_states() -> Iterator[None]:
    """Restore the global random states of Python, NumPy and torch at the end of a block."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        # GPUs are counted even where the driver is too old for torch to use them.
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_available() else ()):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def share_of_hours(max_hours: float | None, started: float, n_left: int) -> float | None:
    """Return the hours for the next of several trainings that share a limit: a second at least, as 0 is no limit.

    Args:
        max_hours: Limit for all of them, or None.
        started: Start of the first by ``time.monotonic``.
        n_left: Number of trainings left, the next included.
    """
    if max_hours is None:
        return None
    return max(1.0, 3600 * max_hours - (time.monotonic() - started)) / 3600 / n_left


def n_parameters(network: torch.nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
