"""Starting from another model: which weights are taken over, and how long they stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from crysmm.config.graph import GraphSettings
from crysmm.errors import InputError
from crysmm.inference.model_folder import BACKBONE, read_description, read_weights, shape_of
from crysmm.zoo import resolve

SAME_LAYERS = {"crysxpp": "cgcnn"}  # backbones that have the layers of another


@dataclass(frozen=True)
class CopyReport:
    """Which weights of another model were taken over.

    Args:
        folder: of the other model.
        loaded: names of the weights taken over.
        left_out: by name, why not: the shapes, or on which side it is missing.
        graph: the graphs the other model was trained on.
    """

    folder: Path
    loaded: list[str]
    left_out: dict[str, str]
    graph: GraphSettings

    def text(self) -> str:
        """One paragraph for the screen."""
        total = len(self.loaded) + len(self.left_out)
        graph = f"{self.graph.neighbor_strategy}, cutoff {self.graph.cutoff:g}, {self.graph.max_neighbors} neighbours"
        parts = dict.fromkeys((_part_of(name, why), why) for name, why in self.left_out.items())
        left_out = "".join(f"; left out {part} ({why})" for part, why in parts)
        return (
            f"weights from {self.folder}: {len(self.loaded)} of {total} loaded{left_out}. "
            f"They were trained on graphs of {graph}."
        )


def _part_of(name: str, why: str) -> str:
    """The part of a network that is on one side only, such as one decoder; a weight of another shape by its name."""
    return name if "there" in why else ".".join(name.split(".")[:2])


def copy_weights(network: nn.Module, backbone: str, folder: Path | str) -> CopyReport:
    """Start a network from another model: every weight whose name and shape agree is taken over.

    Args:
        network: is changed.
        backbone: the name of its backbone.
        folder: of the other model; its head may differ.

    Raises:
        ModelFolderError: the folder cannot be read.
        InputError: the other model has another backbone, or no weight fits.
    """
    folder = resolve(folder)
    description = read_description(folder)
    other = description.config.model.name
    if SAME_LAYERS.get(other, other) != SAME_LAYERS.get(backbone, backbone):
        raise InputError(
            f"the weights of {folder} are those of {other}, and the backbone is {backbone}; give --model {other}, or "
            "leave out init_from; a teacher (--head.teacher) may have another backbone than its student"
        )
    found, expected = read_weights(folder, description), network.state_dict()
    left_out = {}
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            left_out[name] = "only in the new network"
        elif name not in expected:
            left_out[name] = "only in the other model"
        elif found[name].shape != expected[name].shape:
            left_out[name] = f"{shape_of(found[name])} there, {shape_of(expected[name])} here"
    loaded = [name for name in expected if name not in left_out]
    if not any(name in loaded for name, _ in network.named_parameters()):  # counters of batches fit every network
        raise InputError(
            f"no weight of {folder} fits the network, which has another size; give the same model settings, or leave "
            "out init_from"
        )
    network.load_state_dict({name: found[name] for name in loaded}, strict=False)
    return CopyReport(folder, loaded, left_out, description.graph)


class Freezer(pl.Callback):
    """Leaves weights as they are in the first epochs.

    Their gradients are dropped before each step, so that processes that train together need not know; a batch
    normalisation among them keeps its statistics too.
    """

    def __init__(self) -> None:
        self._parameters: list[nn.Parameter] = []
        self._normalizations: list[nn.Module] = []
        self._epochs = 0

    def freeze(self, network: nn.Module, names: Sequence[str], epochs: int) -> None:
        """Choose the weights, by name in the network's state, and for how many epochs; a head's always learn."""
        self._epochs = epochs
        names = [name for name in names if name.startswith(BACKBONE)]
        self._parameters = [parameter for name, parameter in network.named_parameters() if name in names]
        self._normalizations = [
            module
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm) and f"{name}.running_mean" in names
        ]

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put frozen normalisations in evaluation mode, and back."""
        for normalization in self._normalizations:
            normalization.train(trainer.current_epoch >= self._epochs)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Drop the gradients of frozen weights."""
        if trainer.current_epoch < self._epochs:
            for parameter in self._parameters:
                parameter.grad = None
