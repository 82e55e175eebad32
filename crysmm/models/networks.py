"""Networks from their settings: a backbone, the heads that read its embeddings, and both together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from crysmm.config.graph import GraphSettings
from crysmm.config.models import BACKBONES, ALIGNNConfig, CGCNNConfig, CrysXPPConfig, GATGNNConfig, Link, ModelConfig
from crysmm.config.run import RunConfig
from crysmm.data.batch import CrystalBatch
from crysmm.elements import feature_table
from crysmm.engines.linear import precise
from crysmm.engines.segments import gather
from crysmm.errors import InputError, nearest
from crysmm.models.alignn import ALIGNN
from crysmm.models.backbone import Backbone, Embedding, Engine, crystal_sum
from crysmm.models.cgcnn import CGCNN
from crysmm.models.crysxpp import CrysXPP
from crysmm.models.gatgnn import GATGNN
from crysmm.models.gaussian_process import GaussianProcessHead, PooledFeatures
from crysmm.text.encoder import TunedEncoder

if TYPE_CHECKING:
    from crysmm.config import TrainingConfig
    from crysmm.teachers.registry import TeacherIdentity
    from crysmm.text.embeddings import TextSettings

PROJECTED = 64  # width of the projections of graph and text, by the authors' code


def build_backbone(
    model: ModelConfig | str,
    atom_input_features: int | None = None,
    cutoff: float = GraphSettings().cutoff,
    engine: Engine = "blocked",
) -> Backbone:
    """Build a backbone with new weights.

    Args:
        model: Name of the backbone, or its settings.
        atom_input_features: Number of features of each atom, set by ``atom_features`` of the graph settings; by default
            that of the default features.
        cutoff: Cutoff of the neighbor search, Angstrom.
        engine: Engine that passes the messages.

    Raises:
        InputError: There is no backbone of this name, or ``model.atom_input_features`` is set to another number than
            ``atom_input_features``.
    """
    if isinstance(model, str):
        if model not in BACKBONES:
            raise InputError(f"{model}: there is no such backbone{nearest(model, list(BACKBONES))}")
        model = RunConfig.model_validate({"model": model}).model
    if atom_input_features is None:
        atom_input_features = feature_table(GraphSettings().atom_features).shape[1]
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


def backbone_for_graphs(model: ModelConfig, graph: GraphSettings, engine: Engine = "blocked") -> Backbone:
    """Build a backbone with new weights for the atom features and the cutoff of some graphs; see `build_backbone`."""
    return build_backbone(model, feature_table(graph.atom_features).shape[1], graph.cutoff, engine)


def apply_link(outputs: Tensor, link: Link) -> Tensor:
    """Convert the output layer's prediction of a target, its logarithm or its logit into the target."""
    if link == "log":
        return torch.exp(outputs)
    if link == "logit":
        return torch.sigmoid(outputs)
    return outputs


class VanillaHead(nn.Module):
    """Hidden layers of the backbone's authors, then one linear layer.

    Args:
        backbone: Backbone whose readout is used.
        n_outputs: Number of columns of the prediction.
        link: Quantity that the output layer predicts; see :func:`apply_link`.
    """

    def __init__(self, backbone: Backbone, n_outputs: int, link: Link = "identity"):
        super().__init__()
        self.link: Link = link
        self.hidden, features = backbone.readout()
        self.output = nn.Linear(features, n_outputs)

    def forward(self, embedding: Embedding, texts: Tensor | None, shift: Tensor | float = 0.0) -> Tensor:
        """Predict ``[n_crystals, n_outputs]``; texts are not read, and ``shift`` is added before the link."""
        return apply_link(precise(self.output(self.hidden(embedding.graph))) + shift, self.link)


class ProjectionHead(nn.Module):
    """Projection to width 64 with a residual branch (CrysMMNet): ``LayerNorm(p + Dropout(Linear(GELU(p))))``, p linear.

    Args:
        features: Width of the rows.
    """

    def __init__(self, features: int):
        super().__init__()
        self.projection = nn.Linear(features, PROJECTED)
        self.branch = nn.Sequential(nn.GELU(), nn.Linear(PROJECTED, PROJECTED), nn.Dropout(0.1))
        self.norm = nn.LayerNorm(PROJECTED)

    def forward(self, rows: Tensor) -> Tensor:
        """Project ``[n, features]`` to ``[n, 64]``."""
        projected = self.projection(rows)
        return self.norm(projected + self.branch(projected))


class MultimodalHead(nn.Module):
    """Fusion of graph and text, projected to width 64 each, by two layers (CrysMMNet: Das et al., UAI 2023).

    A crystal without a description has a learned vector in place of its projected text.

    Args:
        graph_features: Width of the crystal embeddings.
        text_features: Width of the text embeddings.
        n_outputs: Number of columns of the prediction.
        link: Quantity that the output layer predicts; see :func:`apply_link`.
        encoder: Module that embeds the tokens in a batch; None for batches that hold embeddings.
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

    def forward(self, embedding: Embedding, texts: Tensor | None, shift: Tensor | float = 0.0) -> Tensor:
        """Predict ``[n_crystals, n_outputs]``.

        Args:
            embedding: Embeddings of the graphs.
            texts: Text embeddings, ``[n_crystals, text_features]``, NaN for a crystal without one; or the input of
                ``encoder``.
            shift: Addition to the outputs before the link, ``[n_crystals, 1]``.

        Raises:
            ValueError: The batch has no texts.
        """
        if texts is None:
            raise ValueError("the batch has no embeddings of texts; give them to its loader")
        texts = precise(self.encoder(texts))
        is_missing = texts[:, :1].isnan()  # a missing text is NaN in every column
        with torch.autocast(texts.device.type, enabled=False):  # for so few rows bf16 costs more than it saves
            # without NaN in the branch that is not selected: its gradient would be NaN, not 0
            text = torch.where(is_missing, self.no_text, self.text(texts.nan_to_num()))
            graph = self.graph(precise(embedding.graph))
            return apply_link(self.output(self.fusion(torch.cat([graph, text], dim=1))) + shift, self.link)


class ShortBondPenalty(nn.Module):
    """Penalty for short bonds in ALIGNN's ``alignn_atomwise``: ``factor * max(0, length - |r|)`` for each edge r.

    The original adds the sum over all crystals of a batch to each of them; here each has its own.

    Args:
        factor: Penalty per Angstrom.
        length: Length below which a bond is short, Angstrom.
    """

    def __init__(self, factor: float, length: float):
        super().__init__()
        self.factor, self.length = factor, length

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Sum over the edges of each crystal, ``[n_crystals, 1]``."""
        penalties = self.factor * (self.length - batch.bond_lengths()).clamp(min=0)
        of_atoms = batch.connectivity.by_destination.sum(penalties[:, None])
        if batch.merged is not None:  # equivalent atoms have the same incoming bonds
            of_atoms = gather(of_atoms, batch.merged.atoms)
        return crystal_sum(of_atoms, batch.n_atoms)


class PotentialFusion(nn.Module):
    """Linear layer from a potential's features, standardized, to rows that are added to the atom embeddings.

    Args:
        features: Number of features per atom by the potential.
        node_features: Width of the atom embeddings.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, node_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.projection = nn.Linear(features, node_features)

    def standardize_by(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Set mean and standard deviation of each feature, ``[features]`` each."""
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(deviation))

    def forward(self, features: Tensor) -> Tensor:
        """Project ``[n_atoms_in_all, features]`` to ``[n_atoms_in_all, node_features]``."""
        projected: Tensor = self.projection((features - self.mean) / self.deviation)
        return projected


class PropertyNetwork(nn.Module):
    """Backbone and head, which predict a batch of crystals in the network's units.

    Args:
        backbone: Backbone that embeds the crystals.
        head: Head that predicts from their embeddings.
        short_bonds: Penalty added to the outputs before the link, or None.
        potential: Layer from a potential's features to what is added to the atom embeddings, or None.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        short_bonds: ShortBondPenalty | None = None,
        potential: nn.Module | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.short_bonds = short_bonds
        self.potential = potential

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Predict targets after the link, or logits of classes, ``[n_crystals, n_outputs]``; never squeezed."""
        return self.read(self.embed(batch), batch)

    def embed(self, batch: CrystalBatch) -> Embedding:
        """Embed the atoms and crystals of a batch.

        Raises:
            ValueError: The batch lacks the features of a potential that the network reads.
        """
        if self.potential is None:
            embedding: Embedding = self.backbone(batch)
        elif batch.potential is None:
            raise ValueError("the batch has no features of a potential; give them to its loader")
        else:
            embedding = self.backbone(batch, self.potential(batch.potential))
        return embedding

    def read(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """Predict from the embeddings of a batch by the backbone, for callers that use the embeddings, too."""
        shift = 0.0 if self.short_bonds is None else self.short_bonds(batch)
        outputs: Tensor = self.head(embedding, batch.texts, shift)
        return outputs


def build_network(
    config: TrainingConfig,
    n_outputs: int,
    text: TextSettings | None = None,
    potential: TeacherIdentity | None = None,
    n_kept: int | None = None,
) -> PropertyNetwork:
    """Build the network of a training config, with new weights from torch's global random state.

    Args:
        config: Backbone, its sizes, head and graph.
        n_outputs: Number of targets, or of classes.
        text: Settings of the texts that a multimodal head reads; None if it reads none.
        potential: Potential whose features the head reads; None if it reads none.
        n_kept: Number of training crystals that a Gaussian process keeps.

    Raises:
        InputError: The text encoder cannot be tuned as requested.
    """
    if config.head.name == "features":
        assert potential is not None
        assert n_kept is not None
        process = GaussianProcessHead(potential.width, n_kept, n_outputs)
        return PropertyNetwork(PooledFeatures(potential.width), process, potential=nn.Identity())
    backbone = backbone_for_graphs(config.model, config.graph_settings(), config.engine)
    model, link, head = config.model, config.model.link, config.head
    short_bonds = None
    if isinstance(model, ALIGNNConfig) and model.short_bond_penalty:
        short_bonds = ShortBondPenalty(model.short_bond_penalty, model.short_bond_length)
    fusion = None if potential is None else PotentialFusion(potential.width, backbone.node_features)
    if text is None or head.name != "multimodal":  # a teacher changes the training, not the network
        return PropertyNetwork(backbone, VanillaHead(backbone, n_outputs, link), short_bonds, fusion)
    encoder = None
    if text.tuned_layers:
        encoder = TunedEncoder(text.load_encoder(), text.tuned_layers, head.encoder_learning_rate)
    fused_head = MultimodalHead(backbone.node_features, text.width, n_outputs, link, encoder)
    return PropertyNetwork(backbone, fused_head, short_bonds, fusion)
