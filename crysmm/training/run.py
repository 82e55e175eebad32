"""A run, whatever it learns: read, split, fit, keep the best epoch, write a folder."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from crysmm.config.run import RunConfig
from crysmm.data.loader import BatchSampler
from crysmm.device import Machine, reproducible
from crysmm.engines.memory import keep_freed_memory
from crysmm.errors import DivergedError, InputError, NoResultError
from crysmm.files import write_csv_atomic, write_json_atomic
from crysmm.inference.model_card import CARD_FILE, write_card
from crysmm.inference.model_folder import read_description
from crysmm.objectives.base import Objective
from crysmm.runs.card_text import run_card
from crysmm.runs.data import RunData
from crysmm.runs.plots import plot_history
from crysmm.runs.run_folder import ALL_EPOCHS, EARLY_STOPPING, MAX_HOURS, RunFolder
from crysmm.runs.summary import describe_data, describe_machine
from crysmm.signals import StopRequested, listening
from crysmm.training.callbacks import (
    OutOfTimeError,
    Recorder,
    SignalListener,
    TimeLimit,
    read_checkpoint,
    write_history,
)
from crysmm.training.console import Report
from crysmm.training.distributed import connect, disconnect, lightning_silenced, make_trainer, on_main
from crysmm.training.module import TrainingModule, seed_everything
from crysmm.training.prepare import loader_for, sampler_for
from crysmm.training.progress import Progress
from crysmm.training.transfer import Freezer, copy_weights
from crysmm.zoo import resolve

Config = TypeVar("Config", bound=RunConfig)
Data = TypeVar("Data", bound=RunData)


@dataclass(frozen=True)
class RunResult:
    """What a run has come to.

    Args:
        folder: the run folder.
        metrics: what its ``metrics.json`` holds.
    """

    folder: Path
    metrics: dict[str, Any]


class Run(ABC, Generic[Config, Data]):
    """One run in one process: the objects that accompany it, and its steps.

    A subclass reads the data, makes the objective, and writes what is to be kept of the best epoch.

    Args:
        config: the settings.
        machine: what it computes on.

    Raises:
        InputError: no output folder is named.
    """

    def __init__(self, config: Config, machine: Machine):
        if config.output_dir is None:
            raise InputError("output_dir is not given; name the folder the run is to be written to")
        self.started = time.monotonic()
        self.config = config
        self.folder = RunFolder(config.output_dir)
        self.machine = machine
        self.report = Report()
        self.progress = Progress(self.report, config.progress)
        self.recorder = Recorder(self.folder, config.n_early_stopping, self.progress)
        hours = math.inf if config.max_hours is None else config.max_hours
        self.freezer = Freezer()
        callbacks = [
            SignalListener(), TimeLimit(self.started + 3600 * hours), self.freezer, self.progress, self.recorder
        ]  # fmt: skip
        self.trainer = make_trainer(config, machine, callbacks)

    @abstractmethod
    def prepare(self, records: Sequence[Mapping[str, Any]] | None) -> Data:
        """Read, check and split the structures."""

    @abstractmethod
    def new_objective(self, data: Data) -> Objective:
        """What is learned, with fresh weights from torch's global random state."""

    @abstractmethod
    def baseline(self, data: Data) -> float | None:
        """What the monitored measure is without a network, if that says something."""

    @abstractmethod
    def describe_task(self, data: Data, baseline: float | None) -> list[str]:
        """Lines that say what is learned from what."""

    @abstractmethod
    def write_best(self, objective: Objective, data: Data) -> dict[str, Any]:
        """Judge the best epoch's weights and write all that is kept of them; all processes call it.

        Returns:
            What it adds to ``metrics.json``.
        """

    def write_report(self, data: Data, metrics: Mapping[str, Any]) -> None:
        """Write a page for people to look at, if this kind of run has one."""

    @abstractmethod
    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """Lines that say what has come out and how to use it."""

    def go(self, records: Sequence[Mapping[str, Any]] | None) -> RunResult:
        """All steps, one after another."""
        connect(self.trainer)
        if on_main(self.trainer, self._is_finished):
            self.report.say(f"the run in {self.folder.path} is finished; nothing is left to resume")
            return RunResult(self.folder.path, self.folder.read_metrics())
        data = self.prepare(records)
        self._tell(describe_data(data, self.folder))
        return self.learn(data)

    def learn(self, data: Data) -> RunResult:
        """Train, and keep what has come of it."""
        return self._finish(data, self.fit(data))

    def is_done(self, data: Data) -> bool:
        """Whether the folder holds this run, finished.

        Raises:
            InputError: what it holds has learned from other data.
        """
        if not self.folder.is_finished:
            return False
        if self.folder.read_metrics().get("data_sha256") != data.fingerprint:
            raise self._other_data()
        return True

    def fit(self, data: Data) -> TrainingModule:
        """Train all epochs that are left; the checkpoint then holds the weights of the best."""
        objective = self._initialise(data)
        sampler = sampler_for(data, "train", self.config, self.trainer, shuffled=True)
        steps = [sampler.n_steps(epoch) for epoch in range(self.config.epochs)]
        module = TrainingModule(objective, self.config, steps, self.baseline(data), data.fingerprint)
        self._tell(self.describe_task(data, module.baseline))
        checkpoint = on_main(self.trainer, lambda: self._checkpoint_of(module))
        on_main(self.trainer, lambda: self.open_folder(data, is_new=checkpoint is None))
        if not self._resume(checkpoint, sampler):
            self._train(module, data, sampler)
        return module

    def tell_stop(self, stop: StopRequested) -> None:
        """Say what is kept, and end the processes this one has started."""
        kept = "give the same command and --resume to go on after the last whole epoch"
        nothing = "no epoch was complete, so nothing is kept"
        self.report.say(f"stopped by {stop.name}: {kept if self.folder.has_checkpoint else nothing}")
        disconnect(self.trainer)

    def close(self) -> None:
        """Close the bar and the log."""
        self.progress.close()
        self.report.close()

    def _tell(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.report.say(line)

    def _is_finished(self) -> bool:
        self.folder.check(self.config)
        if self.config.resume and self.folder.is_finished:
            return True
        for model in self.models_needed():
            read_description(resolve(model))  # a wrong name is to be told before the structures are read
        return False

    def models_needed(self) -> list[str | Path]:
        """Folders or shipped names of the models this run starts from or learns from."""
        return [] if self.config.init_from is None else [self.config.init_from]

    @property
    def freeze_epochs(self) -> int:
        """Epochs in which weights taken over stay as they are."""
        return 0

    def _initialise(self, data: Data) -> Objective:
        """The objective, its weights drawn anew or taken over from another model."""
        seed_everything(self.config.random_seed)
        objective = self.new_objective(data)
        if self.config.init_from is not None:
            report = copy_weights(objective.network, self.config.model.name, self.config.init_from)
            self.report.say(report.text())
            self.freezer.freeze(objective.network, report.loaded, self.freeze_epochs)
        n_processes = self.trainer.world_size
        self.report.say(describe_machine(self.config, self.machine, n_parameters(objective), n_processes))
        return objective

    def _checkpoint_of(self, module: TrainingModule) -> dict[str, Any] | None:
        """The state to resume from, if that is asked for and there is one."""
        if not self.config.resume or not self.folder.checkpoint.exists():
            return None
        checkpoint = read_checkpoint(self.folder.checkpoint)
        if checkpoint["data"] != module.data:
            raise self._other_data()
        return checkpoint

    def _other_data(self) -> InputError:
        return InputError(
            f"the run in {self.folder.path} cannot be resumed: the structures, their properties, their split, "
            "the teacher or the texts have changed since it was begun; begin another run, or replace this one with "
            "--overwrite"
        )

    def open_folder(self, data: Data, is_new: bool) -> None:
        """Make the folder and write what is known before training; a new run replaces what is there."""
        if is_new:
            self.folder.clear()
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.report.open(self.folder.log)
        versions = ", ".join(f"{name} {version}" for name, version in self.machine.versions().items())
        self.report.note(f"versions: {versions}")
        self.report.note(f"settings: {self.config.model_dump_json()}")
        write_json_atomic(self.folder.config, self.config.model_dump(mode="json"))
        write_json_atomic(self.folder.ids, data.split.to_ids(data.store.ids))
        skipped = [(row.id, row.file, row.reason) for row in data.skipped]
        write_csv_atomic(self.folder.skipped, ("id", "file", "reason"), skipped)

    def _resume(self, checkpoint: dict[str, Any] | None, sampler: BatchSampler) -> bool:
        """Go back to where the run was; whether all its epochs are done."""
        if checkpoint is None:
            return False
        self.recorder.load_state_dict(checkpoint["callbacks"][self.recorder.state_key])
        n_done = len(self.recorder.history)
        sampler.set_epoch(n_done)  # Lightning does so too late for worker processes
        self.report.say(f"resuming after epoch {n_done} of {self.config.epochs}")
        return n_done == self.config.epochs or self.recorder.lost_patience

    def _train(self, module: TrainingModule, data: Data, sampler: BatchSampler) -> None:
        validation = sampler_for(data, "val", self.config, self.trainer)
        try:
            self.trainer.fit(
                module,
                loader_for(data, sampler, self.config, self.trainer, data.embeddings),
                loader_for(data, validation, self.config, self.trainer, data.embeddings),
                ckpt_path=self.folder.checkpoint if self.recorder.history else None,
                weights_only=True,
            )
        except OutOfTimeError:
            if not self.recorder.history:
                raise NoResultError(
                    f"max_hours {self.config.max_hours:g} ended before the first epoch did, so there is no result; "
                    "give more time"
                ) from None
        self.progress.close()

    def _finish(self, data: Data, module: TrainingModule) -> RunResult:
        """Take the best epoch's weights from the disk, judge them and write everything.

        Raises:
            DivergedError: no epoch had a validation score that is a number.
        """
        if math.isinf(self.recorder.best_value):
            raise DivergedError(
                "training has diverged: no epoch has a validation score that is a number; begin again with a "
                f"learning_rate lower than {self.config.learning_rate:g}"
            )
        checkpoint = on_main(self.trainer, lambda: read_checkpoint(self.folder.checkpoint))
        module.objective.network.load_state_dict(checkpoint["callbacks"][self.recorder.state_key]["best_weights"])
        scores = self.write_best(module.objective, data)
        metrics = on_main(self.trainer, lambda: self._metrics_of(scores, data, module))
        return self.complete(data, metrics)

    def complete(self, data: Data, metrics: dict[str, Any]) -> RunResult:
        """Write the pages for people, and last what makes the run a finished one."""
        on_main(self.trainer, lambda: self._close_folder(data, metrics))
        self._tell(self.describe_result(metrics))
        return RunResult(self.folder.path, metrics)

    def _close_folder(self, data: Data, metrics: Mapping[str, Any]) -> None:
        self.write_report(data, metrics)
        if not write_card(self.folder.path, run_card(self.folder, self.config, metrics)):
            self.report.say(
                f"{self.folder.path / CARD_FILE} is not a card that crysmm has written, and is left as it is"
            )
        write_json_atomic(self.folder.metrics, metrics)
        if metrics["stopped_by"] != MAX_HOURS:
            self.folder.discard_checkpoint()

    def _metrics_of(self, scores: Mapping[str, Any], data: Data, module: TrainingModule) -> dict[str, Any]:
        history, measure = self.recorder.history, module.objective.monitor
        write_history(self.folder.history, history)
        plot_history(self.folder.history_plot, history, measure, module.baseline)
        return {
            **scores,
            "monitored": f"val_{measure}",
            "baseline": module.baseline,
            "best_epoch": self.recorder.best_epoch,
            "epochs": len(history),
            "stopped_by": self.stopped_by(),
            "seconds": time.monotonic() - self.started,
            "seconds_per_epoch": fmean(row["seconds"] for row in history),
            "peak_memory_gib": self.machine.peak_memory(),
            "device": str(self.machine.device),
            "precision": self.machine.precision,
            "n_processes": self.trainer.world_size,
            "n_parameters": n_parameters(module.objective.network),
            "n_crystals": len(data.store),
            "n_skipped": len(data.skipped),
            "data_sha256": data.fingerprint,
        }

    def stopped_by(self) -> str:
        """How training has ended."""
        if len(self.recorder.history) == self.config.epochs:
            return ALL_EPOCHS
        return EARLY_STOPPING if self.recorder.lost_patience else MAX_HOURS


def carry_out(
    kind: Callable[[Config, Machine], Run[Config, Data]], config: Config, records: Sequence[Mapping[str, Any]] | None
) -> RunResult:
    """Make a run and go through it, its random numbers, signals and logs kept apart from the caller's.

    Raises:
        InputError: the settings, the input or the output folder cannot be used; nothing has been written then.
        KeyboardInterrupt: Ctrl-C; what resuming needs is in the folder. SIGTERM raises ``SystemExit`` likewise.
    """
    machine = Machine.of(config)
    with isolate_rng(), lightning_silenced(), reproducible(machine.device), keep_freed_memory(machine.device):
        run = kind(config, machine)
        try:
            with listening():
                return run.go(records)
        except StopRequested as stop:
            run.tell_stop(stop)
            raise stop.exit_error(run.report.is_main) from None
        finally:
            run.close()


def n_parameters(network: torch.nn.Module) -> int:
    """Number of weights that are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
