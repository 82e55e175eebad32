"""The seam between the training loop and the science."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from crysmm.data.batch import CrystalBatch


class Objective(nn.Module, ABC):
    """Everything the training loop knows about what is learned.

    A new objective fills in the two methods and names the measure that chooses the best epoch; the loop, the run
    folder, resuming and distribution stay as they are.

    Args:
        network: what is trained, and all that is kept of the objective when a run is over.
        monitor: the measure of :meth:`measures` whose mean over the validation split is smallest in the best epoch.

    Attributes:
        progress: share of the steps of training that are done, from 0 to 1; the loop sets it before each step.
    """

    progress: float = 0.0

    def __init__(self, network: nn.Module, monitor: str):
        super().__init__()
        self.network = network
        self.monitor = monitor

    @abstractmethod
    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """The loss to minimise: a scalar, a mean over the crystals of the batch."""

    @abstractmethod
    def measures(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Measures by name, ``[n_crystals]`` float64 each; ``loss`` is among them, and smaller is better."""
