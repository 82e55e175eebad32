"""Starting from the weights of another model, and freezing them in the first epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from crysmm.config.graph import GraphSettings
from crysmm.errors import InputError
from crysmm.inference.model_folder import BACKBONE, read_description, read_weights, shape_of
from crysmm.zoo import resolve

SAME_LAYERS = {"crysxpp": "cgcnn"}  # backbones that have the layers of another


@dataclass(frozen=True)
class CopyReport:
    """Weights loaded from another model.

    Args:
        folder: Folder of the other model.
        loaded: Names of the loaded weights.
        left_out: Reasons by name for the others: the two shapes, or the side on which a weight is missing.
        graph: Graphs the other model was trained on.
    """

    folder: Path
    loaded: list[str]
    left_out: dict[str, str]
    graph: GraphSettings

    def text(self) -> str:
        """Return one line to print."""
        total = len(self.loaded) + len(self.left_out)
        graph = f"{self.graph.neighbor_strategy}, cutoff {self.graph.cutoff:g}, {self.graph.max_neighbors} neighbors"
        # Parts that are on one side only, such as a decoder, are named as a whole; a weight of another shape by itself.
        parts = dict.fromkeys(
            (name if "there" in why else ".".join(name.split(".")[:2]), why) for name, why in self.left_out.items()
        )
        left_out = "".join(f"; left out {part} ({why})" for part, why in parts)
        return (
            f"weights from {self.folder}: {len(self.loaded)} of {total} loaded{left_out}. "
            f"They were trained on graphs of {graph}."
        )


def copy_weights(network: nn.Module, backbone: str, folder: Path | str) -> CopyReport:
    """Load every weight of another model whose name and shape agree.

    Args:
        network: Network to load the weights into.
        backbone: Name of its backbone.
        folder: Folder or shipped name of the other model, whose head may differ.

    Raises:
        ModelFolderError: The folder cannot be read.
        InputError: The other model has another backbone, or no weight of its backbone fits.
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
    # Batch counters fit every network, and a head alone knows nothing of other embeddings.
    if not any(name.startswith(BACKBONE) and name in loaded for name, _ in network.named_parameters()):
        raise InputError(
            f"no weight of the backbone of {folder} fits the network, which has another size; give the same model "
            "settings, or leave out init_from"
        )
    network.load_state_dict({name: found[name] for name in loaded}, strict=False)
    return CopyReport(folder, loaded, left_out, description.graph)


@dataclass(frozen=True)
class FrozenWeights:
    """Backbone weights that stay fixed in the first epochs; a head is trained from the beginning.

    Their gradients are dropped before each step, so that processes that train together need not know. Batch norms
    among them keep their statistics, too.

    Args:
        parameters: Parameters to keep fixed.
        normalizations: Batch norms to keep in evaluation mode.
        n_epochs: Number of epochs in which they stay fixed.
    """

    parameters: Sequence[nn.Parameter] = ()
    normalizations: Sequence[nn.Module] = ()
    n_epochs: int = 0

    @classmethod
    def of(cls, network: nn.Module, names: Sequence[str], n_epochs: int) -> FrozenWeights:
        """Select the backbone weights among some names in the state of a network."""
        names = [name for name in names if name.startswith(BACKBONE)]
        return cls(
            [parameter for name, parameter in network.named_parameters() if name in names],
            [
                module
                for name, module in network.named_modules()
                if isinstance(module, _BatchNorm) and f"{name}.running_mean" in names
            ],
            n_epochs,
        )

    def begin_epoch(self, epoch: int) -> None:
        """Put frozen normalizations in evaluation mode; ``epoch`` counts from 0."""
        if epoch < self.n_epochs:
            for normalization in self.normalizations:
                normalization.eval()

    def drop_gradients(self, epoch: int) -> None:
        """Drop the gradients of frozen weights before a step."""
        if epoch < self.n_epochs:
            for parameter in self.parameters:
                parameter.grad = None
