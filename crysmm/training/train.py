"""Training on labels: one network, one per delta of a distilled head, or an ensemble."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from crysmm.config.loading import override
from crysmm.config.models import Rising, TeacherConfig, weight_name
from crysmm.config.training import TrainingConfig
from crysmm.device import Machine
from crysmm.errors import DivergedError, NoResultError
from crysmm.inference.frozen_network import Outputs
from crysmm.inference.saved_models import load_model
from crysmm.io.table import Records
from crysmm.models.gaussian_process import MOST_KEPT, GaussianProcessHead
from crysmm.models.networks import PropertyNetwork, build_network
from crysmm.models.potential import PotentialFusion
from crysmm.objectives.distillation import DistillationObjective, make_projection
from crysmm.objectives.objective import Objective
from crysmm.objectives.property import PropertyObjective, baseline, fit_weights
from crysmm.processes import Processes
from crysmm.runs.data import TrainingData
from crysmm.runs.run_folder import CLOSED_FORM, MAX_HOURS, MEMBER, PART, SPLITS
from crysmm.runs.run_writer import ResultsWriter, SplitOutputs
from crysmm.runs.summary import describe_members, describe_result, describe_task
from crysmm.training.predict import predict_splits
from crysmm.training.prepare import fit_scaler, prepare_training
from crysmm.training.run import Run, RunResult, carry_out, share_of_hours
from crysmm.training.teacher import embed_by_potential, embed_by_teacher
from crysmm.training.texts import read_texts


def train(
    config: TrainingConfig | Mapping[str, Any] | None = None, records: Records | None = None, **settings: Any
) -> RunResult:
    """Train a network and write the run folder ``output_dir``, which :func:`crysmm.load` reads.

    ::

        crysmm.train(root_dir="my_crystals", output_dir="runs/a", target_key="band_gap", epochs=50)

    Args:
        config: Settings of the run, also as a dict.
        records: Structures and their properties in place of ``root_dir``: a list of dicts, as returned by
            ``jarvis.db.figshare.data``, or a pandas ``DataFrame``.
        **settings: Settings by name, which override those of ``config``.

    Raises:
        InputError: The settings, the input or the output folder cannot be used; nothing has been written.
        KeyboardInterrupt: Ctrl-C; the folder holds what resuming needs. SIGTERM raises ``SystemExit`` likewise.
    """
    config = override(TrainingConfig, config, settings)
    return carry_out(EnsembleRun if config.ensemble > 1 else network_run, config, records)


def network_run(config: TrainingConfig, machine: Machine, processes: Processes) -> TrainingRun:
    """Return the run that trains one network, with the best of several deltas if the head has several."""
    if not config.has_graph_network:
        return GaussianProcessRun(config, machine, processes)
    return (DeltasRun if config.has_several_deltas else TrainingRun)(config, machine, processes)


class TrainingRun(Run[TrainingConfig, TrainingData]):
    """Run that trains one network on labels.

    Attributes:
        outputs: Outputs of the network by split, once it is evaluated.
    """

    writer: ResultsWriter
    outputs: SplitOutputs
    writer_class = ResultsWriter

    def n_frozen_epochs(self) -> int:
        """Return the number of epochs in which weights loaded from another model stay fixed."""
        return self.config.freeze_epochs

    def prepare(self, records: Sequence[Mapping[str, Any]] | None) -> TrainingData:
        """Read and split the structures and their labels, then texts, a potential's features and a teacher's."""
        data = prepare_training(self.config, records, self.processes)
        data = replace(data, texts=read_texts(self.config, records, data, self.processes))
        data = embed_by_potential(self.config, data, self.processes)
        data = embed_by_teacher(self.config, data, self.processes)
        return replace(data, scaler=fit_scaler(self.config, data, self.processes))  # again, as crystals may be left out

    def new_objective(self, data: TrainingData) -> Objective:
        """Build the network with its loss on labels, and on the teacher's embeddings if there is a teacher."""
        text = None if data.texts is None else data.texts.settings
        potential = None if data.potential_features is None else data.potential_features.teacher
        network = build_network(self.config, data.scaler.n_outputs, text, potential)
        if data.potential_features is not None and isinstance(network.potential, PotentialFusion):
            network.potential.standardize_by(*data.potential_features.statistics(data.split.train))
        head, criterion = self.config.distillation, self.config.criterion
        weights = fit_weights(self.config.target_weights, data.targets("train"), data.targets("val"))
        if data.teacher_features is None or head is None:
            return PropertyObjective(network, data.scaler, criterion, weights)
        widths = (network.backbone.node_features, data.teacher_features.width)
        projection: torch.nn.Module = torch.nn.Identity()  # enough for relations, which have no width
        if head.matched != "relations":
            projection = make_projection(head.projection, *widths, seed=self.config.random_seed)
        return DistillationObjective(network, data.scaler, criterion, head.delta[0], projection, weights, head.matched)

    def baseline(self, data: TrainingData) -> float:
        """Return the validation metric of a constant prediction, fitted to the training split."""
        return baseline(data.scaler, data.targets("train"), data.targets("val"))

    def describe_task(self, data: TrainingData, baseline: float | None) -> list[str]:
        """Describe split, targets, baseline, texts and teacher."""
        assert baseline is not None
        return describe_task(data, self.config, baseline)

    def evaluate(self, objective: Objective, data: TrainingData) -> dict[str, Any]:
        """Predict every split, write model and predictions, and return the metrics of each split."""
        network = objective.network
        assert isinstance(network, PropertyNetwork)
        self.outputs = predict_splits(network, data, self.config, self.processes)
        return self.writer.write_evaluation(self.writer.save_network(network, data), data, self.outputs)

    def circumstances(self, data: TrainingData) -> dict[str, Any]:
        """Return the entries of ``metrics.json`` about machine and data, with the units of the targets."""
        return {**super().circumstances(data), "units": dict(zip(data.store.target_names, data.units, strict=True))}

    def write_report(self, data: TrainingData, metrics: Mapping[str, Any]) -> None:
        """Write ``report.html``."""
        from crysmm.report.page import write_report  # it imports plotly

        write_report(self.folder, data, self.config, self.machine, metrics, self.writer.assessments)

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """Describe the scores, the files, and the command that predicts."""
        return describe_result(metrics, self.folder)


class GaussianProcessRun(TrainingRun):
    """Run that fits Gaussian processes to a potential's features, which takes no epochs."""

    def new_objective(self, data: TrainingData) -> Objective:
        """Fit a process to each target."""
        assert data.potential_features is not None
        scaler, rows = data.scaler, data.rows("train")
        n_kept = min(len(rows), MOST_KEPT)
        network = build_network(self.config, scaler.n_outputs, None, data.potential_features.teacher, n_kept)
        assert isinstance(network.head, GaussianProcessHead)
        targets = scaler.encode(torch.from_numpy(data.targets("train"))).numpy()
        network.head.fit(data.potential_features.crystal_means(rows), targets, self.config.random_seed)
        return PropertyObjective(network, scaler, self.config.criterion)

    def train_and_evaluate(self, data: TrainingData) -> RunResult:
        """Fit the processes, evaluate them, and write everything."""
        self.writer.open(data, self.machine.versions(), is_new=True)
        baseline = self.baseline(data)
        self.log.say(*self.describe_task(data, baseline))
        scores = self.evaluate(self.new_objective(data), data)
        ended = {"baseline": baseline, "stopped_by": CLOSED_FORM, "seconds": self.seconds}
        return self.finish(data, {**scores, **ended, **self.circumstances(data)})


class RunOfRuns(TrainingRun):
    """Run of several sub-runs on the same data, each in a folder of its own inside this run's."""

    @contextmanager
    def sub_run(self, folder: str, n_left: int, changes: Mapping[str, Any]) -> Iterator[TrainingRun]:
        """Create a sub-run, and close its log at the end of the block.

        Args:
            folder: Name of its folder.
            n_left: Number of sub-runs still to train, this one included; they share the time that is left.
            changes: Settings in which it differs from this run.
        """
        max_hours = share_of_hours(self.config.max_hours, self.started, n_left)
        own = {"output_dir": self.folder.path / folder, "max_hours": max_hours}
        run = network_run(self.config.model_copy(update={**changes, **own}), self.machine, self.processes)
        try:
            yield run
        finally:
            run.log.close()

    def open_folder(self, data: TrainingData) -> None:
        """Create the folder; a resumed run keeps its sub-runs."""
        self.writer.open(data, self.machine.versions(), is_new=not self.config.resume)

    @staticmethod
    def joint_end(ends: Sequence[str]) -> str:
        """Return why all sub-runs ended: ``max_hours`` if one of them can be resumed, otherwise as the first did."""
        return MAX_HOURS if MAX_HOURS in ends else ends[0]


class DeltasRun(RunOfRuns):
    """Run with one sub-run per delta of the head; the best on the validation split becomes the result."""

    def __init__(self, config: TrainingConfig, machine: Machine, processes: Processes):
        super().__init__(config, machine, processes)
        self.parts: dict[float | Rising, TrainingRun] = {}
        self.diverged: set[float | Rising] = set()

    @property
    def best(self) -> float | Rising:
        """Delta with the best validation metric so far."""
        return min(self.parts, key=lambda delta: self.parts[delta].history.best_value)

    def fit(self, data: TrainingData) -> Objective:
        """Train with every delta, and take the history of the best.

        Raises:
            NoResultError: None of them has completed an epoch.
        """
        head = self.config.head
        assert isinstance(head, TeacherConfig)
        self.open_folder(data)
        kept: Objective | None = None
        failure: NoResultError | None = None
        for number, delta in enumerate(head.delta):
            name, n_left = weight_name(delta), len(head.delta) - number
            self.log.say(f"delta {name}, {number + 1} of {len(head.delta)}")
            changes = {"head": head.model_copy(update={"delta": (delta,)})}
            with self.sub_run(f"{PART}{name}", n_left, changes) as part:
                self.parts[delta] = part
                try:
                    objective = part.fit(data)
                except NoResultError as error:  # the other deltas may still have a result
                    failure = error
                    part.history.best_value = math.inf
                    if isinstance(error, DivergedError):
                        self.diverged.add(delta)
                    self.log.say(f"delta {name} has no result: {error}")
                    continue
            if kept is None or self.best == delta:
                kept = objective
        if kept is None:
            assert failure is not None
            raise failure
        best = self.parts[self.best]
        self.history, self.baseline_score = best.history, best.baseline_score
        self.seconds_before = sum(part.seconds_before for part in self.parts.values())
        return kept

    def stopped_by(self) -> str:
        """Return why training ended; a diverged sub-run cannot be resumed and does not count."""
        others = [part.stopped_by() for delta, part in self.parts.items() if delta not in self.diverged]
        return self.joint_end([self.parts[self.best].stopped_by(), *others])

    def evaluate(self, objective: Objective, data: TrainingData) -> dict[str, Any]:
        """Evaluate the best sub-run; add its ``delta`` and the validation scores of all ``deltas`` to the metrics."""
        deltas = {
            weight_name(delta): {
                f"val_{objective.monitor}": best if math.isfinite(best := part.history.best_value) else None,
                "best_epoch": part.history.best_epoch,
            }
            for delta, part in self.parts.items()
        }
        return {**super().evaluate(objective, data), "delta": self.best, "deltas": deltas}

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """Describe the choice of the delta, then its result."""
        scores = [f"{weight_name(delta)}: {part.history.best_value:.4g}" for delta, part in self.parts.items()]
        chosen = f"delta {weight_name(self.best)} is the best by {metrics['monitored']} ({', '.join(scores)})"
        return [chosen, *super().describe_result(metrics)]


class EnsembleRun(RunOfRuns):
    """Run with one sub-run per seed, all on one split; the mean of the networks predicts."""

    def train_and_evaluate(self, data: TrainingData) -> RunResult:
        """Train the members that are not finished, then evaluate the mean of all."""
        self.open_folder(data)
        trained = [self._train_member(number, data) for number in range(1, self.config.ensemble + 1)]
        members = [member for member, _ in trained]
        means = {split: Outputs.combine([outputs[split] for _, outputs in trained]) for split in trained[0][1]}
        checksum = self.writer.save_ensemble([member.folder for member in members])
        scores = self.writer.write_evaluation(checksum, data, means)
        own = (*SPLITS, "best_epoch", "epochs", "seconds")
        metrics = {
            **scores,
            "members": {
                member.folder.name: {key: member.metrics[key] for key in own if key in member.metrics}
                for member in members
            },
            "max_epochs": self.config.epochs,
            "stopped_by": self.joint_end([member.metrics["stopped_by"] for member in members]),
            "seconds": self.seconds,
            **self.circumstances(data),
        }
        return self.finish(data, metrics)

    def _train_member(self, number: int, data: TrainingData) -> tuple[RunResult, SplitOutputs]:
        """Train a member on the split of this run, unless it is finished; return its result and its outputs."""
        sizes = [name for split in SPLITS for name in (f"n_{split}", f"{split}_ratio")]
        seed = (self.config.random_seed + number - 1) % 2**32
        changes = {
            **dict.fromkeys(sizes),
            "ids_file": self.folder.ids,
            "split_strategy": "random",
            "keep_data_order": False,
            "ensemble": 1,
            "random_seed": seed,
        }
        self.log.say(f"member {number} of {self.config.ensemble}, seed {seed}")
        with self.sub_run(f"{MEMBER}{number}", self.config.ensemble - number + 1, changes) as member:
            metrics = member.writer.finished_metrics(data)
            if metrics is None:
                result = member.train_and_evaluate(data)
                self.seconds_before += member.seconds_before
                return result, member.outputs
            self.log.say("trained already")
            self.seconds_before += metrics["seconds"]
            model = self.processes.on_first(partial(load_model, member.folder.path))
            outputs = predict_splits(model.network, data, self.config, self.processes)
            return RunResult(member.folder.path, metrics), outputs

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """Describe the scores of the members, then those of the ensemble."""
        return [*describe_members(metrics), *super().describe_result(metrics)]
