"""Heads: from a crystal's embedding to its prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crysmm.config.models import Link
from crysmm.data.batch import CrystalBatch
from crysmm.graphs.features import feature_table
from crysmm.models.backbones import build_backbone
from crysmm.models.base import Backbone, Embedding
from crysmm.models.layers import precise

if TYPE_CHECKING:
    from crysmm.config import TrainingConfig


def apply_link(outputs: Tensor, link: Link) -> Tensor:
    """The target from what the output layer predicts: itself, its logarithm or its logit."""
    if link == "log":
        return torch.exp(outputs)
    if link == "logit":
        return torch.sigmoid(outputs)
    return outputs


class VanillaHead(nn.Module):
    """The authors' hidden layers after pooling, then one linear layer.

    Args:
        backbone: whose readout is used.
        n_outputs: columns of the prediction.
        link: see :func:`apply_link`.
    """

    def __init__(self, backbone: Backbone, n_outputs: int, link: Link = "identity"):
        super().__init__()
        self.link: Link = link
        self.hidden, features = backbone.readout()
        self.output = nn.Linear(features, n_outputs)

    def forward(self, embedding: Embedding) -> Tensor:
        """``[n_crystals, n_outputs]``."""
        return apply_link(precise(self.output(self.hidden(embedding.graph))), self.link)


class PropertyNetwork(nn.Module):
    """A backbone and a head: from a batch of crystals to predictions in the network's units.

    Args:
        backbone: embeds the crystals.
        head: reads their embeddings.
    """

    def __init__(self, backbone: Backbone, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, batch: CrystalBatch) -> Tensor:
        """``[n_crystals, n_outputs]``: targets after the link, or logits of classes; never squeezed."""
        return self.head(self.embed(batch))

    def embed(self, batch: CrystalBatch) -> Embedding:
        """The backbone's embeddings of atoms and crystals."""
        return self.backbone(batch)


HEADS = {"vanilla": VanillaHead, "distilled": VanillaHead}  # a teacher changes what is learned, not what predicts


def build_network(config: TrainingConfig, n_outputs: int) -> PropertyNetwork:
    """The network a training config asks for, with fresh weights from torch's global random state.

    Args:
        config: names the backbone, its sizes, the head and the graph.
        n_outputs: number of targets, or of classes.
    """
    graph = config.graph_settings()
    atom_input_features = feature_table(graph.atom_features).shape[1]
    backbone = build_backbone(config.model, atom_input_features, graph.cutoff, config.engine)
    return PropertyNetwork(backbone, HEADS[config.head.name](backbone, n_outputs, config.model.link))
