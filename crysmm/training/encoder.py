"""Encoders: backbones that know crystals, from a pre-training run or out of a model that predicts properties."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from crysmm.config.graph import GraphSettings
from crysmm.config.models import ModelConfig
from crysmm.config.pretraining import PretrainingConfig
from crysmm.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.graphs.features import feature_table
from crysmm.inference.folder import (
    EncoderDescription,
    Origin,
    load_weights,
    read_description,
    read_weights,
    reference_predictions,
    refuse_drift,
    refuse_larger,
    write_folder,
)
from crysmm.inference.loading import load_model
from crysmm.models.backbones import build_backbone
from crysmm.models.base import Backbone
from crysmm.training.transfer import BACKBONE
from crysmm.zoo import resolve


@dataclass(frozen=True)
class LoadedEncoder:
    """A backbone read from a model folder; in evaluation mode, without gradients, on the CPU.

    Args:
        folder: it was read from.
        backbone: with its weights.
        model: its settings.
        settings: the graphs it needs.
        weights_sha256: names the weights.
    """

    folder: Path
    backbone: Backbone
    model: ModelConfig
    settings: GraphSettings
    weights_sha256: str


def save_encoder(
    folder: Path,
    network: nn.Module,
    backbone: Backbone,
    config: PretrainingConfig,
    *,
    elements: Sequence[str] | None,
    references: Sequence[Crystal],
    origin: Origin | None = None,
) -> None:
    """Write the folder of a pre-training run; see :func:`crysmm.inference.folder.write_folder`.

    Args:
        folder: other files in it are left alone.
        network: the backbone with its decoders.
        backbone: part of it.
        config: what it was trained with.
        elements: symbols that occur in the training split; ``None`` where that is not known.
        references: a few crystals to keep with their pooled embeddings.
        origin: what it was converted from, if it was.
    """
    write_folder(
        folder,
        network,
        config,
        kind="crysmm-encoder",
        elements=elements,
        references=references,
        predictions=_embed(backbone, config.graph_settings(), references),
        origin=origin,
        others={},
    )


def load_encoder(folder: Path | str) -> LoadedEncoder:
    """Read the backbone of a model folder of either kind.

    Args:
        folder: of a run of ``crysmm pretrain`` or ``crysmm train``, or the name of a shipped model.

    Raises:
        ModelFolderError: it is not one, incomplete or damaged, or gives other numbers than when it was written.
    """
    folder = resolve(folder)
    description = read_description(folder)
    if isinstance(description, EncoderDescription):
        backbone = _read_backbone(folder, description)
    else:
        model = load_model(folder)
        model.check_references()
        backbone = model.network.backbone
    backbone.requires_grad_(False)
    return LoadedEncoder(folder, backbone, description.config.model, description.graph, description.weights_sha256)


def _read_backbone(folder: Path, description: EncoderDescription) -> Backbone:
    settings = description.graph
    model, n_features = description.config.model, feature_table(settings.atom_features).shape[1]
    weights = read_weights(folder, description)
    own = {name.removeprefix(BACKBONE): tensor for name, tensor in weights.items() if name.startswith(BACKBONE)}
    build = partial(build_backbone, model, n_features, settings.cutoff)
    refuse_larger(build, model, own, folder)
    backbone = build()
    load_weights(backbone, own, folder)
    found = _embed(backbone, settings, [reference.crystal for reference in description.references])
    expected = reference_predictions(folder, description, found.shape[1])
    drift = float(np.abs(found - expected).max() / np.abs(expected).max())
    refuse_drift(folder, description, drift, "the largest entry of their embeddings")
    return backbone


def _embed(backbone: Backbone, settings: GraphSettings, crystals: Sequence[Crystal]) -> np.ndarray:
    """float64 ``[n, d]`` pooled embeddings."""
    copy = deepcopy(backbone).to(device="cpu", dtype=torch.float64).eval()
    with torch.inference_mode():
        embeddings: np.ndarray = copy(collate_crystals(crystals, settings).double()).graph.numpy()
    return embeddings
