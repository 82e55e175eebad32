"""Pre-training on structures without labels: an encoder, and decoders that predict from its embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.pretraining import CrysAEConfig, CrysGNNConfig, DecoysConfig, ImitationConfig, PretrainingConfig
from crysmm.data.batch import CrystalBatch
from crysmm.elements import feature_table
from crysmm.engines.linear import precise
from crysmm.errors import InputError
from crysmm.models.backbone import Backbone, Embedding
from crysmm.models.networks import backbone_for_graphs
from crysmm.objectives.corruption import Corruption, Example
from crysmm.objectives.crysae import crysae_terms
from crysmm.objectives.crysgnn import crysgnn_terms
from crysmm.objectives.decoys import decoy_terms
from crysmm.objectives.imitation import ImitationTerm
from crysmm.objectives.objective import Objective
from crysmm.objectives.reconstruction import AtomFeatureTerm, ConnectivityTerm
from crysmm.objectives.terms import Term

EVALUATION_SEED = 0


class PretrainingNetwork(nn.Module):
    """An encoder and the decoders it is trained with.

    Args:
        backbone: Encoder, the only part of the network that is used after pre-training.
        decoders: Terms that predict from the atom embeddings, by name.
        normalize: True to divide every atom embedding by its length before decoding.
    """

    def __init__(self, backbone: Backbone, decoders: Mapping[str, Term], normalize: bool):
        super().__init__()
        self.backbone = backbone
        self.decoders = nn.ModuleDict(decoders)
        self.normalize = normalize

    def terms(self) -> dict[str, Term]:
        """Return the decoders with their losses, by name."""
        return {name: cast(Term, decoder) for name, decoder in self.decoders.items()}

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Embed a batch; the atom embeddings are those that the decoders receive."""
        nodes, graph = self.backbone(batch)
        return Embedding(functional.normalize(precise(nodes), dim=1) if self.normalize else nodes, graph)


class PretrainingObjective(Objective):
    """Weighted sum of the decoders' losses on corrupted structures.

    The metrics are ``loss``, the sum, and the loss of each term by its name. A loss that is pooled over a batch (of
    CrysGNN, all but that of space groups) has the same value for every crystal of the batch. Its mean over
    batches depends slightly on how crystals are distributed over them.

    Args:
        network: Encoder and decoders.
        corruption: Corruption of the structures. In training it draws from torch's global random state; for metrics it
            is always the same for a given batch.
    """

    network: PretrainingNetwork

    def __init__(self, network: PretrainingNetwork, corruption: Corruption):
        super().__init__(network, monitor="loss")
        self.corruption = corruption

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Return the weighted sum of the losses of the batch, newly corrupted."""
        example = self.corruption.apply(batch)
        embedding = self.network(example.seen)
        terms = self.network.terms().values()
        loss = torch.stack([term.weight * term(embedding.nodes, example).mean() for term in terms]).sum()
        # No term reads the pooled embedding, but DDP needs a gradient for the weights that only pooling uses.
        return loss + 0 * precise(embedding.graph).sum()

    def metrics(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return ``loss``, and the loss of each term, per crystal."""
        example, generator = self.corrupt_reproducibly(batch)
        nodes = self.network(example.seen).nodes
        # The terms continue the generator's sequence, so that pairs are also sampled the same way at every call.
        terms = self.network.terms()
        losses = {name: term(nodes, example, generator).double() for name, term in terms.items()}
        return {"loss": torch.stack([terms[name].weight * losses[name] for name in losses]).sum(0), **losses}

    def corrupt_reproducibly(self, batch: CrystalBatch) -> tuple[Example, torch.Generator]:
        """Corrupt a batch the same way at every call; also return the generator for further random numbers."""
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        return self.corruption.apply(batch, generator), generator

    def n_sampled(self, n_atoms: np.ndarray) -> int:
        """Return the number of crystals whose pairs are sampled for connectivity because they are too many.

        Args:
            n_atoms: Number of atoms per crystal, ``[n_crystals]``.
        """
        terms = self.network.terms().values()
        return sum(int((n_atoms > term.largest_cell).sum()) for term in terms if isinstance(term, ConnectivityTerm))


def build_pretraining(config: PretrainingConfig, teacher_width: int | None = None) -> PretrainingObjective:
    """Build the objective of a pre-training config, with new weights from torch's global random state.

    Args:
        config: Settings of the run.
        teacher_width: Number of features per atom of the teacher, if the method has one.

    Raises:
        InputError: The method reconstructs atom features, and the chosen ones are not bits.
    """
    graph, method = config.graph_settings(), config.method
    table = feature_table(graph.atom_features)
    backbone = backbone_for_graphs(config.model, graph, config.engine)
    sizes = (backbone.node_features, table.shape[1], graph.cutoff)
    corruption = Corruption(method.mask_ratio, method.distance_noise)
    match method:
        case CrysAEConfig():
            network = PretrainingNetwork(backbone, crysae_terms(method, *sizes), normalize=False)
        case CrysGNNConfig():
            network = PretrainingNetwork(backbone, crysgnn_terms(method, *sizes), normalize=True)
        case DecoysConfig():
            network = PretrainingNetwork(backbone, decoy_terms(method, backbone.node_features), normalize=False)
            features = torch.from_numpy(table.copy())
            corruption = replace(corruption, replaced_ratio=method.replaced_ratio, features=features)
        case ImitationConfig():
            assert teacher_width is not None
            imitation = ImitationTerm(backbone.node_features, teacher_width)
            network = PretrainingNetwork(backbone, {"imitation": imitation}, normalize=False)
    if any(isinstance(term, AtomFeatureTerm) for term in network.terms().values()) and not np.isin(table, (0, 1)).all():
        raise InputError(
            f"the method reconstructs atom features as bits, and those of --atom_features {graph.atom_features} are "
            "not: use --atom_features cgcnn, or --method.feature_weight 0"
        )
    return PretrainingObjective(network, corruption)
