"""CrysGNN's encoder (github.com/kdmsit/crysgnn): CGCNN's convolutions after an embedding without a bias.

The original divides an atom's embedding by its length before anything reads it. Here the encoder gives it undivided, as
the encoders of ``crysmm pretrain`` do; a student learns from the direction alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from crysmm.config.loading import make_config
from crysmm.config.pretraining import PretrainingConfig
from crysmm.convert.cgcnn import encoder_sizes, graph_settings
from crysmm.convert.checkpoint import Checkpoint
from crysmm.convert.conversion import Conversion
from crysmm.convert.weights import fill
from crysmm.graphs.features import feature_table
from crysmm.models.backbones import build_backbone
from crysmm.training.transfer import BACKBONE

DECODERS = ("fc_adj.", "fc1.", "fc_atom_feature.", "fc_sg.")
BIAS = "embedding.bias"


def convert_crysgnn(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Conversion:
    """The encoder of a checkpoint.

    Args:
        checkpoint: of CrysGNN.
        settings: ``cutoff`` and ``max_neighbors``, each if it is other than the default.

    Raises:
        InputError: settings or weights do not fit.
    """
    graph, notes = graph_settings(settings, set())
    weights = {name: value for name, value in checkpoint.weights.items() if not name.startswith(DECODERS)}
    sizes = encoder_sizes(weights, graph.cutoff)
    weights.setdefault(BIAS, torch.zeros(sizes["node_features"]))
    settings = {**graph.model_dump(), "model": {"name": "cgcnn", **sizes}, "method": "crysgnn"}
    config = make_config(PretrainingConfig, settings)
    atom_features = feature_table(config.atom_features).shape[1]
    network = nn.ModuleDict({"backbone": build_backbone(config.model, atom_features, config.cutoff)})
    fill(network, weights, lambda name: name.removeprefix(BACKBONE))
    notes.append(
        "the encoder alone is taken over; its embeddings of atoms are not divided by their length, as theirs are"
    )
    return Conversion(config, network, notes)
