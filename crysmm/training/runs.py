"""Runs that learn a property, several or classes from labels."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crysmm.config.head import Rising, TeacherConfig, weight_name
from crysmm.config.training import TrainingConfig
from crysmm.device import Machine
from crysmm.errors import DivergedError, NoResultError
from crysmm.files import replacing
from crysmm.inference.assessment import Assessment
from crysmm.models.networks import PropertyNetwork, build_network
from crysmm.objectives.base import Objective
from crysmm.objectives.distillation import DistillationObjective, make_projection
from crysmm.objectives.property import PropertyObjective, baseline
from crysmm.runs.data import TrainingData
from crysmm.runs.run_folder import MAX_HOURS, PART
from crysmm.runs.summary import describe_result, describe_task
from crysmm.training.callbacks import share_of_hours
from crysmm.training.distributed import connect, on_main
from crysmm.training.evaluate import Judgement, predict_splits, write_results
from crysmm.training.module import TrainingModule
from crysmm.training.prepare import prepare_training
from crysmm.training.run import Run
from crysmm.training.teacher import embed_by_teacher
from crysmm.training.texts import read_texts


def training_run(config: TrainingConfig, machine: Machine) -> TrainingRun:
    """The run of one network that the settings ask for."""
    several = config.distillation is not None and len(config.distillation.delta) > 1
    return DeltasRun(config, machine) if several else TrainingRun(config, machine)


class TrainingRun(Run[TrainingConfig, TrainingData]):
    """A run that learns properties from labels; see :class:`Run`."""

    assessments: dict[str, Assessment]  # of each split, once the run is judged

    @property
    def freeze_epochs(self) -> int:
        """See :class:`Run`."""
        return self.config.freeze_epochs

    def models_needed(self) -> list[str | Path]:
        """See :class:`Run`; a teacher is one."""
        taught = self.config.distillation
        return [*super().models_needed(), *([taught.teacher] if taught is not None and taught.teacher else [])]

    def prepare(self, records: Sequence[Mapping[str, Any]] | None) -> TrainingData:
        """See :class:`Run`."""
        data = prepare_training(self.config, records, self.trainer)
        texts = read_texts(self.config, records, data, self.trainer)
        return replace(data, embeddings=embed_by_teacher(self.config, records, data, self.trainer), texts=texts)

    def new_objective(self, data: TrainingData) -> Objective:
        """See :class:`Run`."""
        text = None if data.texts is None else data.texts.settings
        network = build_network(self.config, data.scaler.n_outputs, text)
        head, criterion = self.config.distillation, self.config.criterion
        if data.embeddings is None or head is None:
            return PropertyObjective(network, data.scaler, criterion)
        widths = (network.backbone.node_features, data.embeddings.width)
        projection = make_projection(head.projection, *widths, seed=self.config.random_seed)
        return DistillationObjective(network, data.scaler, criterion, head.delta[0], projection)

    def baseline(self, data: TrainingData) -> float:
        """See :func:`crysmm.objectives.property.baseline`."""
        return baseline(data.scaler, data.targets("train"), data.targets("val"))

    def describe_task(self, data: TrainingData, baseline: float | None) -> list[str]:
        """See :class:`Run`."""
        assert baseline is not None
        return describe_task(data, self.config, baseline)

    def write_best(self, objective: Objective, data: TrainingData) -> dict[str, Any]:
        """See :class:`Run`."""
        network = objective.network
        assert isinstance(network, PropertyNetwork)
        outputs = predict_splits(network, data, self.config, self.trainer)
        return on_main(self.trainer, lambda: self.keep(write_results(self.folder, network, data, self.config, outputs)))

    def keep(self, judgement: Judgement) -> dict[str, Any]:
        """Keep the assessments for the report; what is left are the metrics of each split."""
        self.assessments = judgement.assessments
        return judgement.metrics

    def write_report(self, data: TrainingData, metrics: Mapping[str, Any]) -> None:
        """See :class:`Run`."""
        from crysmm.report.page import write_report  # it imports plotly

        write_report(self.folder, data, self.config, self.machine, metrics, self.assessments)

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """See :class:`Run`."""
        return describe_result(metrics, self.folder)


class DeltasRun(TrainingRun):
    """A run for each delta of the head, in a folder of its own, of which the best on validation becomes this run."""

    def __init__(self, config: TrainingConfig, machine: Machine):
        super().__init__(config, machine)
        assert isinstance(config.head, TeacherConfig)
        self.head = config.head
        self.parts: dict[float | Rising, TrainingRun] = {}
        self.failures: dict[float | Rising, NoResultError] = {}

    @property
    def best(self) -> float | Rising:
        """The delta whose best epoch is the best of all."""
        return min(self.parts, key=lambda delta: self.parts[delta].recorder.best_value)

    def fit(self, data: TrainingData) -> TrainingModule:
        """Train with every delta; the checkpoint then is that of the best.

        Raises:
            NoResultError: with none of them an epoch could be kept.
        """
        on_main(self.trainer, lambda: self.open_folder(data, is_new=not self.config.resume))
        kept: TrainingModule | None = None
        for number, delta in enumerate(self.head.delta, start=1):
            self.report.say(f"delta {weight_name(delta)}, {number} of {len(self.head.delta)}")
            module = self._fit_part(delta, data)
            if module is not None and (kept is None or self.best == delta):
                kept = module
        if kept is None:
            raise list(self.failures.values())[-1]
        self.recorder.load_state_dict(self.parts[self.best].recorder.state_dict())
        on_main(self.trainer, self._take_checkpoint)
        return kept

    def stopped_by(self) -> str:
        """As all have ended if they have ended alike, else as one has that can go on."""
        diverged = {delta for delta, failure in self.failures.items() if isinstance(failure, DivergedError)}
        ends = {part.stopped_by() for delta, part in self.parts.items() if delta not in diverged}
        return MAX_HOURS if MAX_HOURS in ends else self.parts[self.best].stopped_by()

    def write_best(self, objective: Objective, data: TrainingData) -> dict[str, Any]:
        """See :class:`Run`; ``delta`` is the best, ``deltas`` what each has come to on validation."""
        recorders = {delta: part.recorder for delta, part in self.parts.items()}
        deltas = {
            weight_name(delta): {
                f"val_{objective.monitor}": recorder.best_value if math.isfinite(recorder.best_value) else None,
                "best_epoch": recorder.best_epoch,
            }
            for delta, recorder in recorders.items()
        }
        return {**super().write_best(objective, data), "delta": self.best, "deltas": deltas}

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """See :class:`Run`."""
        scores = [f"{weight_name(delta)}: {part.recorder.best_value:.4g}" for delta, part in self.parts.items()]
        chosen = f"delta {weight_name(self.best)} is the best by {metrics['monitored']} ({', '.join(scores)})"
        return [chosen, *super().describe_result(metrics)]

    def _fit_part(self, delta: float | Rising, data: TrainingData) -> TrainingModule | None:
        """What has been trained, or ``None`` where there is nothing to keep: the other deltas go on."""
        part = TrainingRun(self._settings_of(delta), self.machine)
        self.parts[delta] = part
        try:
            connect(part.trainer)
            return part.fit(data)
        except NoResultError as failure:
            self.failures[delta] = failure
            part.recorder.best_value = math.inf
            self.report.say(f"delta {weight_name(delta)} has no result: {failure}")
            return None
        finally:
            part.close()

    def _settings_of(self, delta: float | Rising) -> TrainingConfig:
        """Those of one run; the time left is shared out among the runs left."""
        n_left = len(self.head.delta) - len(self.parts)
        return self.config.model_copy(
            update={
                "head": self.head.model_copy(update={"delta": (delta,)}),
                "output_dir": self.folder.path / f"{PART}{weight_name(delta)}",
                "max_hours": share_of_hours(self.config.max_hours, self.started, n_left),
            }
        )

    def _take_checkpoint(self) -> None:
        with replacing(self.folder.checkpoint) as temporary:
            shutil.copyfile(self.parts[self.best].folder.checkpoint, temporary)
