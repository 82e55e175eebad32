"""Interface of an objective to the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from crysmm.data.batch import CrystalBatch


class Objective(nn.Module, ABC):
    """A network with its loss and its metrics: all that the training loop knows about a method.

    A new objective implements the two methods and names the metric that selects the best epoch. The loop, the run
    folder, resuming and distributed training do not change.

    Args:
        network: Network to train, the only part of the objective that is kept after training.
        monitor: Name of the metric whose mean over the validation split is smallest in the best epoch.

    Attributes:
        progress: Fraction of the training steps that are done, from 0 to 1; the loop sets it before each step.
    """

    progress: float = 0.0

    def __init__(self, network: nn.Module, monitor: str):
        super().__init__()
        self.network = network
        self.monitor = monitor

    @abstractmethod
    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Return the loss to minimize: a scalar, the mean over the crystals of the batch."""

    @abstractmethod
    def metrics(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return metrics by name, each ``[n_crystals]`` float64; ``loss`` is one of them, and smaller is better."""
