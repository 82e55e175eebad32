"""Optimisers and learning rate schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from crysmm.config.run import RunConfig
from crysmm.text.encoder import TunedEncoder


def make_optimizer(config: RunConfig, network: nn.Module) -> Optimizer:
    """AdamW or SGD; weight decay pulls at matrices only, and a tuned text encoder has a learning rate of its own.

    Biases and the scales of normalisation layers, which are the vectors among the parameters, set where an
    activation lies and not how steep the network is, so they are left alone (as in ALIGNN's ``group_decay``).
    """
    encoders = [module for module in network.modules() if isinstance(module, TunedEncoder)]
    of_encoders = {parameter for encoder in encoders for parameter in encoder.parameters()}
    others = [parameter for parameter in network.parameters() if parameter not in of_encoders]
    groups = _groups(others, config.learning_rate, config.weight_decay)
    for encoder in encoders:
        groups += _groups(encoder.parameters(), encoder.learning_rate, config.weight_decay)
    if config.optimizer == "sgd":
        return SGD(groups, momentum=config.momentum)
    return AdamW(groups, fused=True)


def _groups(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Those that are trained: first matrices, then vectors."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]


def make_scheduler(config: RunConfig, optimizer: Optimizer, steps: Sequence[int]) -> LRScheduler | None:
    """The schedule of the learning rate, to be advanced after every step.

    Args:
        config: the schedule and its settings are read.
        optimizer: whose learning rate it sets.
        steps: number of steps in each epoch.
    """
    if config.scheduler == "onecycle":
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=sum(steps),
            pct_start=config.warmup_fraction,
            cycle_momentum=config.optimizer == "adamw",  # sgd keeps the momentum it was given
        )
    if config.scheduler == "multistep":
        ends = [sum(steps[:epoch]) for epoch in config.milestones if epoch <= len(steps)]
        return MultiStepLR(optimizer, ends, config.gamma)
    return None
