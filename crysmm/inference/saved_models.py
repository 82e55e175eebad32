"""Save and load models that predict properties, ensembles of them, and pre-trained encoders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from crysmm.config.graph import GraphSettings
from crysmm.config.models import ModelConfig
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.training import TrainingConfig
from crysmm.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.elements import feature_table
from crysmm.errors import ModelFolderError
from crysmm.files import write_json_atomic
from crysmm.inference.frozen_network import Inference
from crysmm.inference.model_folder import (
    BACKBONE,
    ENSEMBLE_FILE,
    EncoderDescription,
    ModelDescription,
    Origin,
    load_weights,
    read_description,
    read_weights,
    reference_predictions,
    refuse_drift,
    refuse_larger,
    write_folder,
)
from crysmm.models.backbone import Backbone
from crysmm.models.networks import PropertyNetwork, build_backbone, build_network
from crysmm.text.embeddings import Texts, from_lists
from crysmm.zoo import resolve


@dataclass(frozen=True)
class LoadedModel:
    """A model read from its folder; the network is in evaluation mode."""

    folder: Path
    network: PropertyNetwork
    description: ModelDescription

    @property
    def config(self) -> TrainingConfig:
        """What it was trained with."""
        return self.description.config

    @property
    def scaler(self) -> TargetScaler:
        """From network outputs to original units."""
        return self.description.scaler

    @property
    def settings(self) -> GraphSettings:
        """The graphs it needs."""
        return self.description.graph

    def check_references(self) -> None:
        """Predict the reference structures anew.

        Raises:
            ModelFolderError: they come out otherwise than when the model was saved.
        """
        references, text = self.description.references, self.description.text
        texts = None if text is None else from_lists([reference.text for reference in references], text)
        crystals = [reference.crystal for reference in references]
        found = _predict(self.network, self.scaler, self.settings, crystals, texts)
        expected = reference_predictions(self.folder, self.description, found.shape[1])
        drift = self.scaler.drift(found, expected)
        refuse_drift(self.folder, self.description, drift, "the spread of the target")


def save_model(
    folder: Path,
    network: PropertyNetwork,
    config: TrainingConfig,
    scaler: TargetScaler,
    *,
    target_names: Sequence[str],
    elements: Sequence[str] | None,
    references: Sequence[Crystal],
    texts: Texts | None = None,
    origin: Origin | None = None,
) -> str:
    """Write the folder of a model; see :func:`crysmm.inference.model_folder.write_folder`.

    Args:
        folder: other files in it are left alone.
        network: its weights are written, wherever they are.
        config: what it was trained with; paths of the run are left out.
        scaler: fitted on the training split.
        target_names: one a target.
        elements: symbols that occur in the training split; ``None`` where that is not known.
        references: a few crystals to keep with their predictions.
        texts: those of the references, for a network that reads texts.
        origin: what it was converted from, if it was.

    Returns:
        The checksum of the weights.
    """
    values = None if texts is None else texts.values
    return write_folder(
        folder,
        network,
        config,
        kind="crysmm-model",
        elements=elements,
        references=references,
        predictions=_predict(network, scaler, config.graph_settings(), references, values),
        texts=values,
        origin=origin,
        others={
            "target_names": list(target_names),
            "unit": None,
            "scaler": scaler.to_dict(),
            **({} if texts is None else {"text": texts.settings.model_dump()}),
        },
    )


def _predict(
    network: PropertyNetwork,
    scaler: TargetScaler,
    settings: GraphSettings,
    crystals: Sequence[Crystal],
    texts: np.ndarray | None,
) -> np.ndarray:
    batch = collate_crystals(crystals, settings)
    if texts is not None:
        batch = replace(batch, texts=torch.from_numpy(texts))
    return Inference(network, scaler).predict(batch)


def load_model(folder: Path | str) -> LoadedModel:
    """Read a model, on the CPU.

    Args:
        folder: of a run of ``crysmm train``, or the name of a shipped model.

    Raises:
        ModelFolderError: it is not one, incomplete or damaged; the text names the file.
        InputError: a text encoder of which it has tuned the last layers cannot be had.
    """
    folder = resolve(folder)
    description = read_description(folder)
    if not isinstance(description, ModelDescription):
        raise ModelFolderError(
            f"{folder} holds a pre-trained encoder, which predicts no property: fine-tune it first, with crysmm train "
            f"--init_from {folder}"
        )
    config = description.config.model_copy(update={"engine": "blocked"})  # it needs no dgl; the numbers are the same
    weights = read_weights(folder, description)
    build = partial(build_network, config, description.scaler.n_outputs, description.text)
    if description.text is None or not description.text.tuned_layers:  # layers of a language model are in no settings
        refuse_larger(build, config.model, weights, folder)
    network = build()
    load_weights(network, weights, folder)
    return LoadedModel(folder, network, description)


class EnsembleDescription(BaseModel):
    """What ``ensemble.json`` holds.

    Args:
        members: checksum of the weights of each member by the name of its folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["crysmm-ensemble"] = "crysmm-ensemble"
    format_version: Literal[1] = 1
    members: dict[str, str] = Field(min_length=2)

    @property
    def checksum(self) -> str:
        """Of the weights of all members."""
        return hashlib.sha256(" ".join(self.members.values()).encode()).hexdigest()


def write_ensemble(folder: Path, members: Sequence[Path]) -> str:
    """Write ``ensemble.json``.

    Args:
        folder: of the ensemble.
        members: model folders in it.

    Returns:
        The checksum of their weights.
    """
    description = EnsembleDescription(
        members={member.name: read_description(member).weights_sha256 for member in members}
    )
    write_json_atomic(folder / ENSEMBLE_FILE, description.model_dump(mode="json"))
    return description.checksum


def load_members(folder: Path | str) -> tuple[list[LoadedModel], str]:
    """The models of an ensemble, or the one of a model folder.

    Args:
        folder: of a run of ``crysmm train``, or the name of a shipped model.

    Returns:
        The models, on the CPU, and the checksum of their weights.

    Raises:
        ModelFolderError: it is neither, incomplete or damaged; the text names the file.
    """
    folder = resolve(folder)
    path = folder / ENSEMBLE_FILE
    if not path.is_file():
        model = load_model(folder)
        return [model], model.description.weights_sha256
    try:
        description = EnsembleDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:  # pydantic's are ValueErrors
        raise ModelFolderError(f"{path} is damaged or of another version of crysmm: {error}") from error
    models = [load_model(folder / Path(name).name) for name in description.members]
    for model, checksum in zip(models, description.members.values(), strict=True):
        if model.description.weights_sha256 != checksum:
            raise ModelFolderError(f"{model.folder} is another model than {path} names; copy the whole folder again")
    return models, description.checksum


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
    """Write the folder of a pre-training run; see :func:`crysmm.inference.model_folder.write_folder`.

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
