"""Networks from their settings: a backbone alone, or with the head that reads its embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from crysmm.config.graph import GraphSettings
from crysmm.config.models import BACKBONES, ALIGNNConfig, CGCNNConfig, CrysXPPConfig, GATGNNConfig, ModelConfig
from crysmm.config.run import Engine, RunConfig
from crysmm.data.batch import CrystalBatch
from crysmm.elements import feature_table
from crysmm.errors import InputError, nearest
from crysmm.models.alignn import ALIGNN, ShortBondPenalty
from crysmm.models.backbone import Backbone, Embedding
from crysmm.models.cgcnn import CGCNN
from crysmm.models.crysmmnet import MultimodalHead
from crysmm.models.crysxpp import CrysXPP
from crysmm.models.gatgnn import GATGNN
from crysmm.models.gaussian_process import GaussianProcessHead, PooledFeatures
from crysmm.models.heads import VanillaHead
from crysmm.models.potential import PotentialFusion
from crysmm.text.encoder import TunedEncoder

if TYPE_CHECKING:
    from crysmm.config import TrainingConfig
    from crysmm.teachers.registry import TeacherIdentity
    from crysmm.text.embeddings import TextSettings


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
    """Build a backbone with new weights for the features and the cutoff of some graphs; see :func:`build_backbone`."""
    return build_backbone(model, feature_table(graph.atom_features).shape[1], graph.cutoff, engine)


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
        elif batch.potential_features is None:
            raise ValueError("the batch has no features of a potential; give them to its loader")
        else:
            embedding = self.backbone(batch, self.potential(batch.potential_features))
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
    if not config.has_graph_network:
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
