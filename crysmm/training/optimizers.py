"""Optimizers and learning rate schedules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from crysmm.config.run import RunConfig
from crysmm.text.encoder import TunedEncoder


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
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=sum(steps),
            pct_start=config.warmup_fraction,
            cycle_momentum=config.optimizer == "adamw",  # sgd keeps its momentum
        )
    if config.scheduler == "multistep":
        ends = [sum(steps[:epoch]) for epoch in config.milestones if epoch <= len(steps)]
        return MultiStepLR(optimizer, ends, config.gamma)
    return None
