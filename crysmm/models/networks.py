"""Networks from their settings: a backbone, the heads that read its embeddings, and both together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crysmm.config.models import ALIGNNConfig, CGCNNConfig, CrysXPPConfig, GATGNNConfig, Link, ModelConfig
from crysmm.data.batch import CrystalBatch
from crysmm.elements import feature_table
from crysmm.engines.linear import precise
from crysmm.errors import InputError
from crysmm.models.alignn import ALIGNN
from crysmm.models.backbone import Backbone, Embedding, Engine
from crysmm.models.cgcnn import CGCNN
from crysmm.models.crysxpp import CrysXPP
from crysmm.models.gatgnn import GATGNN
from crysmm.text.encoder import TunedEncoder

if TYPE_CHECKING:
    from crysmm.config import TrainingConfig
    from crysmm.text.embeddings import TextSettings

PROJECTED = 64  # width of the projections of graph and text, by the authors' code


def build_backbone(model: ModelConfig, atom_input_features: int, cutoff: float, engine: Engine = "blocked") -> Backbone:
    """A backbone with fresh weights.

    Args:
        model: which one, and its widths and depths.
        atom_input_features: features an atom carries, by ``atom_features`` of the graph settings.
        cutoff: of the neighbour search, Angstrom.
        engine: which engine passes the messages.

    Raises:
        InputError: ``model.atom_input_features`` is set to another number than the atoms carry.
    """
    if model.atom_input_features not in (None, atom_input_features):
        raise InputError(
            f"model.atom_input_features is {model.atom_input_features}, but the chosen atom_features give "
            f"{atom_input_features}: leave the key out, or change atom_features"
        )
    match model:
        case CGCNNConfig():
            return CGCNN(model, atom_input_features, cutoff, engine)
        case CrysXPPConfig():
            return CrysXPP(model, atom_input_features, cutoff, engine)
        case GATGNNConfig():
            return GATGNN(model, atom_input_features, cutoff, engine)
        case ALIGNNConfig():
            return ALIGNN(model, atom_input_features, engine)


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

    def forward(self, embedding: Embedding, texts: Tensor | None) -> Tensor:
        """``[n_crystals, n_outputs]``; texts are not read."""
        return apply_link(precise(self.output(self.hidden(embedding.graph))), self.link)


class ProjectionHead(nn.Module):
    """To width 64, with a residual branch: ``LayerNorm(p + Dropout(Linear(GELU(p))))``, ``p`` linear (CrysMMNet).

    Args:
        features: width of what is projected.
    """

    def __init__(self, features: int):
        super().__init__()
        self.projection = nn.Linear(features, PROJECTED)
        self.branch = nn.Sequential(nn.GELU(), nn.Linear(PROJECTED, PROJECTED), nn.Dropout(0.1))
        self.norm = nn.LayerNorm(PROJECTED)

    def forward(self, rows: Tensor) -> Tensor:
        """``[n, features]`` to ``[n, 64]``."""
        projected = self.projection(rows)
        return self.norm(projected + self.branch(projected))


class MultimodalHead(nn.Module):
    """Graph and text projected to 64 each, side by side, and two layers on both (CrysMMNet: Das et al., UAI 2023).

    A crystal without a description has a learned vector in place of its projected text.

    Args:
        graph_features: width of the backbone's embedding of a crystal.
        text_features: width of a text's embedding.
        n_outputs: columns of the prediction.
        link: see :func:`apply_link`.
        encoder: from what a batch holds of the texts to their embeddings; by default it holds these.
    """

    def __init__(
        self,
        graph_features: int,
        text_features: int,
        n_outputs: int,
        link: Link = "identity",
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder = nn.Identity() if encoder is None else encoder
        self.link: Link = link
        self.graph = ProjectionHead(graph_features)
        self.text = ProjectionHead(text_features)
        self.no_text = nn.Parameter(torch.zeros(PROJECTED))
        self.fusion = nn.Sequential(nn.Linear(2 * PROJECTED, PROJECTED), nn.ReLU())
        self.output = nn.Linear(PROJECTED, n_outputs)

    def forward(self, embedding: Embedding, texts: Tensor | None) -> Tensor:
        """``[n_crystals, n_outputs]``.

        Args:
            embedding: of the graphs.
            texts: ``[n_crystals, text_features]``, NaN where none is; or what ``encoder`` makes them of.

        Raises:
            ValueError: there are no texts at all.
        """
        if texts is None:
            raise ValueError("the batch has no embeddings of texts; give them to its loader")
        texts = precise(self.encoder(texts))
        is_missing = texts[:, :1].isnan()
        with torch.autocast(texts.device.type, enabled=False):  # of so few rows bf16 costs more than it saves
            text = torch.where(is_missing, self.no_text, self.text(texts.nan_to_num()))
            graph = self.graph(precise(embedding.graph))
            return apply_link(self.output(self.fusion(torch.cat([graph, text], dim=1))), self.link)


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
        return self.read(self.embed(batch), batch)

    def read(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """What the head makes of the embeddings of a batch."""
        outputs: Tensor = self.head(embedding, batch.texts)
        return outputs

    def embed(self, batch: CrystalBatch) -> Embedding:
        """The backbone's embeddings of atoms and crystals."""
        return self.backbone(batch)


def build_network(config: TrainingConfig, n_outputs: int, text: TextSettings | None = None) -> PropertyNetwork:
    """The network a training config asks for, with fresh weights from torch's global random state.

    Args:
        config: names the backbone, its sizes, the head and the graph.
        n_outputs: number of targets, or of classes.
        text: how the texts are made that the head reads, if it reads some.

    Raises:
        InputError: the text encoder is to be tuned, and cannot be.
    """
    graph = config.graph_settings()
    atom_input_features = feature_table(graph.atom_features).shape[1]
    backbone = build_backbone(config.model, atom_input_features, graph.cutoff, config.engine)
    link = config.model.link
    head = config.head
    if text is None or head.name != "multimodal":  # a teacher changes what is learned, not what predicts
        return PropertyNetwork(backbone, VanillaHead(backbone, n_outputs, link))
    encoder = None
    if text.tuned_layers:
        encoder = TunedEncoder(text.load_encoder(), text.tuned_layers, head.encoder_learning_rate)
    return PropertyNetwork(backbone, MultimodalHead(backbone.node_features, text.width, n_outputs, link, encoder))
