"""Writing the folder of a run, which only its first process does: state, model, calibration and predictions."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch

from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.elements import elements_in
from crysmm.errors import InputError
from crysmm.files import replacing, write_csv_atomic, write_json_atomic
from crysmm.inference import COVERAGE
from crysmm.inference.assessment import Assessment, Assessor
from crysmm.inference.domain import Domain, TrainingCrystal, rows_to_keep
from crysmm.inference.frozen_network import Outputs
from crysmm.inference.intervals import Calibration
from crysmm.inference.model_card import CARD_FILE, write_card
from crysmm.inference.model_folder import read_description, read_weights, reference_rows
from crysmm.inference.model_teacher import describe_needed
from crysmm.inference.prediction_table import write_predictions
from crysmm.inference.saved_models import save_model, write_ensemble
from crysmm.models.networks import PropertyNetwork
from crysmm.processes import Processes
from crysmm.runs.card_text import run_card
from crysmm.runs.data import RunData, TrainingData
from crysmm.runs.history import History, read_history, write_history
from crysmm.runs.metrics import Metrics, evaluate, evaluate_assessment
from crysmm.runs.plots import plot_history, plot_parity
from crysmm.runs.run_folder import AUDIT_REPORT, AUDIT_TABLE, MAX_HOURS, RunFolder
from crysmm.runs.run_log import RunLog

CHECKPOINT_KEYS = {"data", "trainer", "history"}

Writer = TypeVar("Writer", bound="RunWriter")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
SplitOutputs = dict[str, Outputs]
"""Outputs by split; in the training split, embeddings are kept for :func:`rows_to_keep` only."""


def in_first_process(
    method: Callable[Concatenate[Writer, Arguments], Result],
) -> Callable[Concatenate[Writer, Arguments], Result]:
    """Make a method of a writer run in the first process only; all processes call it and get its result."""

    @wraps(method)
    def call(self: Writer, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self.processes.on_first(lambda: method(self, *args, **kwargs))

    return call


class RunWriter:
    """Reads and writes the state of a run on disk.

    Every process calls these methods, the first does the work, and all get the result.

    Args:
        folder: Run folder.
        config: Settings of the run.
        processes: Processes of the run.
        log: Run log, opened together with the folder.

    Attributes:
        is_open: True if this run has begun to write to the folder.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, processes: Processes, log: RunLog):
        self.folder = folder
        self.config = config
        self.processes = processes
        self.log = log
        self.is_open = False

    @in_first_process
    def check(self) -> dict[str, Any] | None:
        """Check the folder and the models the run needs, before any structure is read.

        Returns:
            The metrics of a finished run that is to be resumed, otherwise None.

        Raises:
            InputError: The folder cannot be used, or a model cannot be read.
        """
        self.folder.check(self.config)
        if self._has_result():
            return self.folder.read_metrics()
        for model in self.config.models_needed():
            describe_needed(model)
        return None

    @in_first_process
    def finished_metrics(self, data: RunData) -> dict[str, Any] | None:
        """Return the metrics of a finished sub-run that is to be resumed, or None if it has to be trained.

        Raises:
            InputError: The sub-run was trained on other data.
        """
        if not self._has_result():
            return None
        metrics = self.folder.read_metrics()
        self._check_data(metrics.get("data_sha256"), data)
        return metrics

    def _has_result(self) -> bool:
        """Return whether nothing is left to do: the run is resumed and finished, and not to be extended."""
        return self.config.resume and self.folder.is_finished and not self.folder.is_extended_by(self.config)

    @in_first_process
    def run_to_extend(self, data: RunData) -> History | None:
        """Read the history of a finished run that is resumed with more epochs, with its weights, or return None.

        Raises:
            InputError: Its history is damaged, or it had other data.
            ModelFolderError: Its weights are damaged.
        """
        if not self.folder.is_extended_by(self.config):
            return None
        metrics = self.folder.read_metrics()
        self._check_data(metrics.get("data_sha256"), data)
        description = read_description(self.folder.path)
        history = read_history(self.folder.history)
        try:
            best = history[metrics["best_epoch"] - 1][metrics["monitored"]]
        except (LookupError, TypeError) as error:
            raise InputError(f"{self.folder.history} is damaged ({error}); begin again with --overwrite") from error
        weights = read_weights(self.folder.path, description)  # of the best epoch, the only ones that are kept
        return History(history, metrics["best_epoch"], best, weights, len(history), metrics["seconds"])

    @in_first_process
    def open(self, data: RunData, versions: Mapping[str, str], *, is_new: bool) -> None:
        """Create the folder and write what is known before training; a new run replaces an old one.

        Raises:
            InputError: Another run has been begun there since this one was.
        """
        self.folder.refuse_running()
        if is_new:
            if self.folder.is_taken(self.config):
                raise InputError(
                    f"another run has been written to {self.folder.path} since this one was begun; name another folder"
                )
            self.folder.clear()
        self.is_open = True
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.log.open(self.folder.log)
        self.log.note(f"versions: {', '.join(f'{name} {version}' for name, version in versions.items())}")
        self.log.note(f"settings: {self.config.model_dump_json()}")
        write_json_atomic(self.folder.config, self.config.model_dump(mode="json"))
        write_json_atomic(self.folder.ids, data.split.to_ids(data.store.ids))
        skipped = [(row.id, row.file, row.reason) for row in data.skipped]
        write_csv_atomic(self.folder.skipped, ("id", "file", "reason"), skipped)

    @in_first_process
    def save_checkpoint(self, checkpoint: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> None:
        """Write what resuming needs, and the history so far.

        Args:
            checkpoint: State of the run, tensors and plain values only.
            history: One row per epoch.
        """
        content = io.BytesIO()  # torch's own file writing hides the disk's error
        torch.save(dict(checkpoint), content)
        with replacing(self.folder.checkpoint) as temporary:
            temporary.write_bytes(content.getbuffer())
        write_history(self.folder.history, history)

    @in_first_process
    def checkpoint_to_resume(self, data: RunData) -> dict[str, Any] | None:
        """Read the checkpoint if the run is to be resumed and there is one.

        Raises:
            InputError: The checkpoint is damaged, or belongs to other data.
        """
        if not self.config.resume or not self.folder.checkpoint.exists():
            return None
        checkpoint = read_checkpoint(self.folder.checkpoint)
        self._check_data(checkpoint["data"], data)
        return checkpoint

    @in_first_process
    def write_history(
        self, history: Sequence[Mapping[str, float]], metric: str, baseline: float | None, unit: str | None
    ) -> None:
        """Write and plot the training history.

        Args:
            history: One row per epoch.
            metric: Monitored metric.
            baseline: Value of the metric without a network, if there is one.
            unit: Unit of the metric, if it is known.
        """
        write_history(self.folder.history, history)
        plot_history(self.folder.history_plot, history, metric, baseline, unit)

    @in_first_process
    def finish(self, metrics: dict[str, Any], write_report: Callable[[], None]) -> dict[str, Any]:
        """Write the report and the model card, and last ``metrics.json``, which marks the run as finished.

        An audit of earlier predictions, made after a stop, is removed.

        Args:
            metrics: Contents of ``metrics.json``.
            write_report: Function that writes ``report.html``, if this kind of run has one.

        Returns:
            The metrics that were written: times and memory are those of the first process.
        """
        write_report()
        for name in (AUDIT_REPORT, AUDIT_TABLE):
            (self.folder.path / name).unlink(missing_ok=True)
        if not write_card(self.folder.path, run_card(self.folder, self.config, metrics)):
            self.log.say(f"{self.folder.path / CARD_FILE} is not a card that crysmm has written, and is left as it is")
        write_json_atomic(self.folder.metrics, metrics)
        if metrics["stopped_by"] != MAX_HOURS:
            self.folder.discard_checkpoint()
        return metrics

    def _check_data(self, fingerprint: str | None, data: RunData) -> None:
        if fingerprint != data.fingerprint:
            raise InputError(
                f"the run in {self.folder.path} cannot be resumed: the structures, their properties, their split, "
                "the teacher or the texts have changed since it was begun; begin another run, or replace this one "
                "with --overwrite"
            )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a resume checkpoint as data; no code in it is run.

    Raises:
        InputError: The file is damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if missing := CHECKPOINT_KEYS - content.keys():
            raise KeyError(", ".join(sorted(missing)))
        return dict(content)
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, EOFError, ValueError, UnpicklingError) as error:
        raise InputError(f"the checkpoint {path} is damaged ({error}); begin again with --overwrite") from error


class ResultsWriter(RunWriter):
    """Writer for runs that are trained on labels.

    Attributes:
        assessments: Assessments of the predictions by split, in the first process, once they are written.
    """

    config: TrainingConfig
    assessments: dict[str, Assessment]

    @in_first_process
    def save_network(self, network: PropertyNetwork, data: TrainingData) -> str:
        """Write the model and return the checksum of its weights."""
        references = reference_rows(data.rows("train"), data.store.n_atoms)
        features = data.potential_features
        return save_model(
            self.folder.path,
            network,
            self.config,
            data.scaler,
            target_names=data.store.target_names,
            elements=data.elements,
            references=data.store.crystals(references),
            texts=None if data.texts is None else data.texts.take(references),
            potential=None if features is None else features.teacher,
            potential_features=None if features is None else features.take(references),
        )

    @in_first_process
    def save_ensemble(self, members: Sequence[Path]) -> str:
        """Write the list of an ensemble's members and return the checksum of their weights."""
        return write_ensemble(self.folder.path, members)

    @in_first_process
    def write_evaluation(self, checksum: str, data: TrainingData, outputs: SplitOutputs) -> dict[str, Metrics]:
        """Calibrate on the validation split, and write the predictions for all splits and the parity plot.

        Only the test split gets intervals and distances: the network has seen the training crystals, and the
        intervals are fitted to the validation crystals.

        Args:
            checksum: Checksum of the model's weights.
            data: Crystals with their targets.
            outputs: Outputs of the model by split.

        Returns:
            The metrics of each split.
        """
        scaler, names = data.scaler, data.store.target_names
        metrics = {
            split: evaluate(scaler, data.targets(split), found.predictions, data.targets("train"), names)
            for split, found in outputs.items()
        }
        train, val = outputs["train"], outputs["val"]
        kept = rows_to_keep(data.rows("train"))
        crystals = [
            TrainingCrystal(
                data.store.ids[row],
                data.store.formulas[row],
                tuple(None if math.isnan(target) else target for target in data.store.targets[row].tolist()),
            )
            for row in kept
        ]
        domain = Domain.fit(train.embeddings, crystals, val.embeddings)
        n_atoms = data.store.n_atoms
        calibration = Calibration.fit(
            scaler, domain, data.targets("val"), val.predictions, val.embeddings, n_atoms[data.rows("val")]
        )
        calibration.write(self.folder.path, checksum)
        assessor = Assessor(scaler, data.elements, calibration, COVERAGE)
        n_validation = (~np.isnan(data.targets("val"))).sum(axis=0)
        self.assessments = {}
        for split, found in outputs.items():
            targets = data.targets(split)
            assessment = Assessment(found.predictions, found.spread)
            if split == "test":
                formulas = [data.store.formulas[row] for row in data.rows(split)]
                elements = [elements_in([formula]) for formula in formulas]
                assessment = assessor.assess(found, elements, n_atoms[data.rows(split)])
                metrics[split] |= evaluate_assessment(assessment, targets, names, n_validation, scaler.lowest)
            self.assessments[split] = assessment
            path, ids = self.folder.predictions(split), data.ids(split)
            write_predictions(path, ids, targets, assessment, scaler, names, data.units)
        shown = {split: (data.targets(split), outputs[split].predictions) for split in outputs if split != "train"}
        plot_parity(self.folder.parity_plot, shown, scaler, names, data.units)
        return metrics
