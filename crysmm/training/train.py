"""Training: a property, several or classes learned from labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crysmm.config.training import TrainingConfig
from crysmm.models.heads import PropertyNetwork, build_network
from crysmm.objectives.base import Objective
from crysmm.objectives.property import PropertyObjective, baseline
from crysmm.training.data import TrainingData, prepare_training
from crysmm.training.distributed import on_main
from crysmm.training.evaluate import predict_splits, write_results
from crysmm.training.run import Run, RunResult, carry_out
from crysmm.training.summary import describe_result, describe_task


def train(config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None = None) -> RunResult:
    """Train a network and write the run folder ``config.output_dir``, which :func:`crysmm.load` reads.

    Args:
        config: the settings.
        records: the structures and their properties as a list of dicts, as ``jarvis.db.figshare.data`` gives it,
            in place of ``config.root_dir``.

    Raises:
        InputError: the settings, the input or the output folder cannot be used; nothing has been written then.
        KeyboardInterrupt: Ctrl-C; what resuming needs is in the folder. SIGTERM raises ``SystemExit`` likewise.
    """
    return carry_out(TrainingRun, config, records)


class TrainingRun(Run[TrainingConfig, TrainingData]):
    """A run that learns properties from labels; see :class:`Run`."""

    @property
    def freeze_epochs(self) -> int:
        """See :class:`Run`."""
        return self.config.freeze_epochs

    def prepare(self, records: Sequence[Mapping[str, Any]] | None) -> TrainingData:
        """See :class:`Run`."""
        return prepare_training(self.config, records, self.trainer)

    def new_objective(self, data: TrainingData) -> Objective:
        """See :class:`Run`."""
        network = build_network(self.config, data.scaler.n_outputs)
        return PropertyObjective(network, data.scaler, self.config.criterion)

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
        predictions = predict_splits(network, data, self.config, self.trainer)
        return on_main(self.trainer, lambda: write_results(self.folder, network, data, self.config, predictions))

    def describe_result(self, metrics: Mapping[str, Any]) -> list[str]:
        """See :class:`Run`."""
        return describe_result(metrics, self.folder)
