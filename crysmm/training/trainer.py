"""Training and validation of an objective, one epoch at a time."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from crysmm.config.run import RunConfig
from crysmm.device import Machine
from crysmm.engines.normalization import count_rows
from crysmm.objectives.objective import Objective
from crysmm.processes import Processes
from crysmm.runs.data import RunData
from crysmm.runs.run_log import Progress
from crysmm.text.encoder import TunedEncoder
from crysmm.training.prepare import loader_for, sampler_for
from crysmm.training.transfer import FrozenWeights


class OutOfTimeError(Exception):
    """``max_hours`` ended within an epoch."""


class Trainer:
    """Trains and validates an objective, one epoch at a time.

    Args:
        objective: Network with its loss and metrics; it is moved to the device.
        data: Crystals with their split.
        config: Settings of the batches, the optimizer and its schedule.
        machine: Precision of matrix products.
        processes: Processes that train together.
        frozen: Weights that stay fixed in the first epochs.
        deadline: Time by ``time.monotonic`` at which training stops, or infinity.
        n_before: Number of epochs before the schedule of the learning rate begins, in a run that is extended.

    Attributes:
        learning_rate: Learning rate of the last step.
    """

    learning_rate: float

    def __init__(
        self,
        objective: Objective,
        data: RunData,
        config: RunConfig,
        machine: Machine,
        processes: Processes,
        frozen: FrozenWeights,
        deadline: float,
        n_before: int = 0,
    ):
        self.objective = objective
        self.config = config
        self.processes = processes
        self.frozen = frozen
        self.deadline = deadline
        self.sampler = sampler_for(data, "train", config, processes, shuffled=True)
        self.steps = [self.sampler.n_steps(epoch) for epoch in range(config.epochs)]
        self.n_steps_before = sum(self.steps[:n_before])
        self.n_steps = sum(self.steps[n_before:])
        self.training_batches = loader_for(data, self.sampler, config, processes, data.teacher_features)
        self.validation_batches = loader_for(
            data, sampler_for(data, "val", config, processes), config, processes, data.teacher_features
        )
        self.synchronized = processes.synchronize(objective)
        # Metrics too, so that all validate with the batch norm statistics of the first process, which are saved.
        for method in ("training_loss", "metrics"):
            self.synchronized.mark_forward_method(method)
        self.optimizer = make_optimizer(config, objective)
        self.scheduler = make_scheduler(config, self.optimizer, self.steps[n_before:])
        self.autocast = torch.autocast(
            processes.device.type, torch.bfloat16, enabled=machine.precision == "bf16", cache_enabled=False
        )

    def train_epoch(self, epoch: int, progress: Progress) -> float:
        """Train on all batches of an epoch.

        Args:
            epoch: Number of the epoch, from 0; it decides the order of the crystals and all random numbers.
            progress: Bar to advance.

        Returns:
            The mean training loss over the crystals of all processes.

        Raises:
            OutOfTimeError: The deadline has passed.
        """
        self.objective.train()
        self.frozen.begin_epoch(epoch)
        self.sampler.set_epoch(epoch)
        batches = iter(self.training_batches)
        # Seeded for each epoch, and after the iterator has drawn a number itself, so that a resumed run draws what an
        # uninterrupted one does.
        seed_everything(self.config.random_seed, epoch, self.processes.rank)
        mean = MeanOverCrystals()
        for step, share in enumerate(batches, start=sum(self.steps[:epoch]) - self.n_steps_before):
            self.objective.progress = step / self.n_steps
            count_rows(self.objective, share.n_crystals > 0)
            with self.autocast:
                loss: Tensor = self.synchronized.training_loss(share.batch.to(self.processes.device))
            self.optimizer.zero_grad()
            self.processes.fabric.backward(loss * share.weight)
            self.frozen.drop_gradients(epoch)
            self.learning_rate = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            mean.add("loss", loss.detach(), share.n_crystals)
            progress.advance(loss)
            if math.isfinite(self.deadline) and self.processes.any(time.monotonic() > self.deadline):
                raise OutOfTimeError
        return mean.over(self.processes)["loss"]

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Return the means of the objective's metrics over the validation split, in every process."""
        self.objective.eval()
        means = MeanOverCrystals()
        for share in self.validation_batches:
            with self.autocast:
                metrics = self.synchronized.metrics(share.batch.to(self.processes.device))
            for name, values in metrics.items():
                means.add(name, values.mean(), share.n_crystals)
        return means.over(self.processes)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and states of the optimizer and its schedule."""
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


class MeanOverCrystals:
    """Means over crystals, summed in float64 on the device, so that no step waits for a number."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, mean: Tensor, n_crystals: int) -> None:
        """Add the mean over some crystals; with 0 crystals it does not count, whatever it is."""
        total = mean.double() * n_crystals if n_crystals else torch.zeros_like(mean, dtype=torch.float64)
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._counts[name] = self._counts.get(name, 0) + n_crystals

    def over(self, processes: Processes) -> dict[str, float]:
        """Return the means over the crystals of all processes, each of which must have added to every name."""
        means = {}
        for name, total in self._sums.items():
            both = torch.stack([total, torch.full_like(total, self._counts[name])])
            total, count = processes.sum(both).tolist()
            means[name] = total / count
        return means


def seed_everything(*seeds: int) -> None:
    """Seed the global random states of Python, NumPy and torch with several numbers."""
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_optimizer(config: RunConfig, network: nn.Module) -> Optimizer:
    """Create AdamW or SGD, with weight decay on matrices only and a separate learning rate for a tuned text encoder.

    Biases and the scales of normalization layers, which are the vectors among the parameters, set where an activation
    lies and not how steep the network is, so they do not decay (as in ALIGNN's ``group_decay``).
    """
    encoders = [module for module in network.modules() if isinstance(module, TunedEncoder)]
    in_encoders = {parameter for encoder in encoders for parameter in encoder.parameters()}
    others = [parameter for parameter in network.parameters() if parameter not in in_encoders]
    groups = []
    for parameters, learning_rate in [
        (others, config.learning_rate),
        *((list(encoder.parameters()), encoder.learning_rate) for encoder in encoders),
    ]:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
        groups.append({"params": matrices, "lr": learning_rate, "weight_decay": config.weight_decay})
        groups.append({"params": vectors, "lr": learning_rate, "weight_decay": 0.0})
    if config.optimizer == "sgd":
        return SGD(groups, momentum=config.momentum)
    return AdamW(groups, fused=True)


def make_scheduler(config: RunConfig, optimizer: Optimizer, steps: Sequence[int]) -> LRScheduler | None:
    """Create the learning rate schedule, which advances with every step, or return None for a constant rate.

    Args:
        config: Settings of the schedule.
        optimizer: Optimizer whose learning rate it sets.
        steps: Number of steps in each epoch.
    """
    if config.scheduler == "onecycle":
        total = sum(steps)
        warmup = config.warmup_fraction
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=total,
            pct_start=0.0 if warmup * total == 1 else warmup,  # torch divides by the steps of the rise less one
            cycle_momentum=config.optimizer == "adamw",  # sgd keeps its momentum
        )
    if config.scheduler == "multistep":
        ends = [sum(steps[:epoch]) for epoch in config.milestones if epoch <= len(steps)]
        return MultiStepLR(optimizer, ends, config.gamma)
    return None
