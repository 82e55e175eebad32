"""Learning from structures without labels: an encoder, and decoders that are asked about what it has embedded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.pretraining import CrysAEConfig, CrysGNNConfig, DecoysConfig, PretrainingConfig
from crysmm.data.batch import CrystalBatch
from crysmm.elements import feature_table
from crysmm.engines.linear import precise
from crysmm.errors import InputError
from crysmm.models.backbone import Backbone, Embedding
from crysmm.models.networks import build_backbone
from crysmm.objectives.base import Objective
from crysmm.objectives.corruption import Corruption, Example
from crysmm.objectives.crysae import crysae_terms
from crysmm.objectives.crysgnn import crysgnn_terms
from crysmm.objectives.decoys import decoy_terms
from crysmm.objectives.reconstruction import AtomFeatureTerm, ConnectivityTerm
from crysmm.objectives.terms import Term

MEASURING_SEED = 0


class PretrainingNetwork(nn.Module):
    """An encoder and the decoders it is trained with.

    Args:
        backbone: the encoder, all that is used of the network later.
        decoders: what is asked of the atoms' embeddings, by name.
        normalize: divide every atom's embedding by its length before it is asked about.
    """

    def __init__(self, backbone: Backbone, decoders: Mapping[str, Term], normalize: bool):
        super().__init__()
        self.backbone = backbone
        self.decoders = nn.ModuleDict(decoders)
        self.normalize = normalize

    def terms(self) -> dict[str, Term]:
        """The decoders with their losses, by name."""
        return {name: cast(Term, decoder) for name, decoder in self.decoders.items()}

    def forward(self, batch: CrystalBatch) -> Embedding:
        """The backbone's embeddings, the atoms' as the decoders get them."""
        nodes, graph = self.backbone(batch)
        return Embedding(functional.normalize(precise(nodes), dim=1) if self.normalize else nodes, graph)


class PretrainingObjective(Objective):
    """The weighted sum of the decoders' losses on structures that the encoder sees corrupted.

    Measures: ``loss``, the sum, and the loss of each term by its name. A loss that is pooled over a batch (those of
    CrysGNN but the space groups') has the same value for every crystal of it, and its mean over batches depends a
    little on how crystals were put into them.

    Args:
        network: encoder and decoders.
        corruption: what is done to structures first. In training it draws from torch's global random state; measures
            always draw the same for one batch.
    """

    network: PretrainingNetwork

    def __init__(self, network: PretrainingNetwork, corruption: Corruption):
        super().__init__(network, monitor="loss")
        self.corruption = corruption

    def training_loss(self, batch: CrystalBatch) -> Tensor:
        """Weighted sum of the losses of the batch."""
        example = self.corruption.apply(batch)
        embedding = self.network(example.seen)
        terms = self.network.terms().values()
        loss = torch.stack([term.weight * term(embedding.nodes, example).mean() for term in terms]).sum()
        return loss + 0 * precise(embedding.graph).sum()  # DDP wants a gradient of what only pooling uses, too

    def measures(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """``loss``, and the loss of each term, of each crystal."""
        example, generator = self.corrupt_again(batch)
        nodes = self.network(example.seen).nodes
        terms = self.network.terms()
        losses = {name: term(nodes, example, generator).double() for name, term in terms.items()}
        return {"loss": torch.stack([terms[name].weight * losses[name] for name in losses]).sum(0), **losses}

    def corrupt_again(self, batch: CrystalBatch) -> tuple[Example, torch.Generator]:
        """The batch with a corruption that is always the same, and the random numbers to go on with."""
        generator = torch.Generator().manual_seed(MEASURING_SEED)
        return self.corruption.apply(batch, generator), generator

    def n_sampled(self, n_atoms: np.ndarray) -> int:
        """How many crystals, by their numbers of atoms, have more pairs than connectivity is asked for."""
        terms = self.network.terms().values()
        return sum(int((n_atoms > term.largest_cell).sum()) for term in terms if isinstance(term, ConnectivityTerm))


def build_pretraining(config: PretrainingConfig) -> PretrainingObjective:
    """The objective a pre-training config asks for, with fresh weights from torch's global random state.

    Raises:
        InputError: the method asks for atom features, and those chosen are not bits.
    """
    graph, method = config.graph_settings(), config.method
    table = feature_table(graph.atom_features)
    backbone = build_backbone(config.model, table.shape[1], graph.cutoff, config.engine)
    sizes = (backbone.node_features, table.shape[1], graph.cutoff)
    match method:
        case CrysAEConfig():
            network = PretrainingNetwork(backbone, crysae_terms(method, *sizes), normalize=False)
        case CrysGNNConfig():
            network = PretrainingNetwork(backbone, crysgnn_terms(method, *sizes), normalize=True)
        case DecoysConfig():
            network = PretrainingNetwork(backbone, decoy_terms(method, backbone.node_features), normalize=False)
    if any(isinstance(term, AtomFeatureTerm) for term in network.terms().values()) and not np.isin(table, (0, 1)).all():
        raise InputError(
            f"atom features are given back as bits, and those of --atom_features {graph.atom_features} are not: use "
            "--atom_features cgcnn, or --method.feature_weight 0"
        )
    corruption = Corruption(method.mask_ratio, method.distance_noise)
    if isinstance(method, DecoysConfig):
        features = torch.from_numpy(table.copy())
        corruption = replace(corruption, replaced_ratio=method.replaced_ratio, features=features)
    return PretrainingObjective(network, corruption)
