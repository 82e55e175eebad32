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
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.data.units import units_of
from crysmm.errors import ModelFolderError
from crysmm.files import write_json_atomic
from crysmm.inference.frozen_network import Inference
from crysmm.inference.model_files import ENSEMBLE_FILE
from crysmm.inference.model_folder import (
    BACKBONE,
    EncoderDescription,
    ModelDescription,
    Origin,
    build_with_weights,
    read_description,
    read_weights,
    refuse_drift,
    write_folder,
)
from crysmm.models.backbone import Backbone
from crysmm.models.gaussian_process import GaussianProcessHead
from crysmm.models.networks import PropertyNetwork, backbone_for_graphs, build_network
from crysmm.teachers.registry import TeacherIdentity
from crysmm.text.embeddings import Texts, from_lists
from crysmm.zoo import resolve


@dataclass(frozen=True)
class LoadedModel:
    """A model that predicts properties, read from its folder; the network is in evaluation mode, on the CPU."""

    folder: Path
    network: PropertyNetwork
    description: ModelDescription

    @property
    def config(self) -> TrainingConfig:
        """Settings it was trained with."""
        return self.description.config

    @property
    def scaler(self) -> TargetScaler:
        """Scaler from network outputs to original units."""
        return self.description.scaler

    @property
    def settings(self) -> GraphSettings:
        """Settings of its graphs."""
        return self.description.graph

    def check_references(self) -> None:
        """Predict the reference structures again.

        Raises:
            ModelFolderError: The predictions differ from those when the model was saved.
        """
        references, text = self.description.references, self.description.text
        texts = None if text is None else from_lists([reference.text for reference in references], text)
        rows = [row for reference in references for row in reference.potential or ()]
        potential_features = np.array(rows, dtype=np.float32) if rows else None
        crystals = [reference.crystal for reference in references]
        found = _predict(self.network, self.scaler, self.settings, crystals, texts, potential_features)
        unit = "the standard deviation of the target" if self.scaler.classes is None else "a probability of 1"
        refuse_drift(self.folder, self.description, found, self.scaler.drift, unit)


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
    potential: TeacherIdentity | None = None,
    potential_features: np.ndarray | None = None,
    origin: Origin | None = None,
) -> str:
    """Write the folder of a model that predicts properties.

    Args:
        folder: Folder to write to; other files in it are left alone.
        network: Trained network, on any device.
        config: Settings of the training; paths of the run are not stored.
        scaler: Target scaler, fitted on the training split.
        target_names: Names of the targets.
        elements: Symbols of the elements in the training split; None if unknown.
        references: A few crystals to keep with their predictions.
        texts: Texts of these crystals, for a network that reads texts.
        potential: Potential that the network reads features of; None if it reads none.
        potential_features: Features of the atoms of these crystals by the potential, ``[n_atoms_in_all, width]``.
        origin: Checkpoint that the model was converted from, if any.

    Returns:
        The checksum of the weights.

    Raises:
        NoResultError: The predictions for the references are not finite; nothing is written.
    """
    values = None if texts is None else texts.values
    process = network.head if isinstance(network.head, GaussianProcessHead) else None
    return write_folder(
        folder,
        network,
        config,
        kind="crysmm-model",
        elements=elements,
        references=references,
        predictions=_predict(network, scaler, config.graph_settings(), references, values, potential_features),
        texts=values,
        potential_features=potential_features,
        origin=origin,
        others={
            "target_names": list(target_names),
            "units": list(units_of(config, target_names)),
            "scaler": scaler.model_dump(mode="json"),
            **({} if texts is None else {"text": texts.settings.model_dump()}),
            **({} if potential is None else {"potential": potential.model_dump()}),
            **({} if process is None else {"n_kept": len(process.kept)}),
        },
    )


def _predict(
    network: PropertyNetwork,
    scaler: TargetScaler,
    settings: GraphSettings,
    crystals: Sequence[Crystal],
    texts: np.ndarray | None,
    potential_features: np.ndarray | None,
) -> np.ndarray:
    """Predict reference structures, on the CPU in float64: ``[n, n_targets]`` or ``[n, n_classes]``."""
    batch = collate_crystals(crystals, settings)
    if texts is not None:
        batch = replace(batch, texts=torch.from_numpy(texts))
    if potential_features is not None:
        batch = replace(batch, potential_features=torch.from_numpy(potential_features))
    return Inference(network, scaler).outputs(batch).predictions


def load_model(folder: Path | str) -> LoadedModel:
    """Load a model that predicts properties, on the CPU.

    Args:
        folder: Folder of a run of ``crysmm train``, or the name of a shipped model.

    Raises:
        ModelFolderError: The folder does not hold such a model, is incomplete or damaged; the message names the file.
        InputError: A text encoder whose last layers were tuned is not available.
    """
    folder = resolve(folder)
    description = read_description(folder)
    if not isinstance(description, ModelDescription):
        raise ModelFolderError(
            f"{folder} holds a pre-trained encoder, which predicts no property: fine-tune it first, with crysmm train "
            f"--init_from {folder}"
        )
    config = description.config.model_copy(update={"engine": "blocked"})  # needs no dgl, and gives the same numbers
    weights = read_weights(folder, description)
    read = description.text, description.potential, description.n_kept
    build = partial(build_network, config, description.scaler.n_outputs, *read)
    # The settings do not have the sizes of a language model whose layers are part of the network.
    has_language_model = description.text is not None and bool(description.text.tuned_layers)
    network = build_with_weights(build, None if has_language_model else config.model, weights, folder)
    return LoadedModel(folder, network, description)


class EnsembleDescription(BaseModel):
    """Content of ``ensemble.json``.

    Args:
        members: Checksums of the weights of the members, by the names of their folders.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["crysmm-ensemble"] = "crysmm-ensemble"
    format_version: Literal[1] = 1
    members: dict[str, str] = Field(min_length=2)

    @property
    def checksum(self) -> str:
        """Checksum of the weights of all members."""
        return hashlib.sha256(" ".join(self.members.values()).encode()).hexdigest()


def write_ensemble(folder: Path, members: Sequence[Path]) -> str:
    """Write ``ensemble.json``.

    Args:
        folder: Folder of the ensemble.
        members: Model folders in it.

    Returns:
        The checksum of the weights of all members.
    """
    description = EnsembleDescription(
        members={member.name: read_description(member).weights_sha256 for member in members}
    )
    write_json_atomic(folder / ENSEMBLE_FILE, description.model_dump(mode="json"))
    return description.checksum


def load_members(folder: Path | str) -> tuple[list[LoadedModel], str]:
    """Load the members of an ensemble, or the one model of a model folder.

    Args:
        folder: Folder of a run of ``crysmm train``, or the name of a shipped model.

    Returns:
        The models, on the CPU, and the checksum of their weights.

    Raises:
        ModelFolderError: The folder is neither a model nor an ensemble, incomplete or damaged; the message names the
            file.
    """
    folder = resolve(folder)
    path = folder / ENSEMBLE_FILE
    if not path.is_file():
        model = load_model(folder)
        return [model], model.description.weights_sha256
    try:
        description = EnsembleDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:  # pydantic's are ValueErrors
        raise ModelFolderError(f"{path} is damaged or from another version of crysmm: {error}") from error
    # The last part of each name only, so that a damaged file cannot lead out of the folder.
    models = [load_model(folder / Path(name).name) for name in description.members]
    for model, checksum in zip(models, description.members.values(), strict=True):
        if model.description.weights_sha256 != checksum:
            raise ModelFolderError(f"{model.folder} is another model than {path} names; copy the whole folder again")
    return models, description.checksum


@dataclass(frozen=True)
class LoadedEncoder:
    """A backbone read from a model folder; in evaluation mode, without gradients, on the CPU.

    Args:
        folder: Folder it was read from.
        backbone: Backbone with its weights.
        model: Settings of the backbone.
        settings: Settings of its graphs.
        weights_sha256: Checksum of the weights in the folder.
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
    """Write the folder of a pre-trained encoder.

    Args:
        folder: Folder to write to; other files in it are left alone.
        network: Backbone with its decoders.
        backbone: Backbone in ``network``.
        config: Settings of the pre-training; paths of the run are not stored.
        elements: Symbols of the elements in the training split; None if unknown.
        references: A few crystals to keep with their pooled embeddings.
        origin: Checkpoint that the encoder was converted from, if any.

    Raises:
        InputError: The embeddings of the references are not finite; nothing is written.
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
    """Load the backbone of an encoder or of a model that predicts properties.

    Args:
        folder: Folder of a run of ``crysmm pretrain`` or ``crysmm train``, or the name of a shipped model.

    Raises:
        ModelFolderError: The folder is not a model folder, incomplete or damaged, or the embeddings or predictions of
            its reference structures have changed since it was written.
    """
    folder = resolve(folder)
    description = read_description(folder)
    model, settings = description.config.model, description.graph
    if isinstance(description, EncoderDescription):
        weights = read_weights(folder, description)
        own = {name.removeprefix(BACKBONE): tensor for name, tensor in weights.items() if name.startswith(BACKBONE)}
        backbone = build_with_weights(partial(backbone_for_graphs, model, settings), model, own, folder)
        found = _embed(backbone, settings, [reference.crystal for reference in description.references])

        def drift(now: np.ndarray, saved: np.ndarray) -> float:
            return float(np.abs(now - saved).max() / np.abs(saved).max())

        refuse_drift(folder, description, found, drift, "the largest entry of their embeddings")
    else:
        if not description.config.has_graph_network:
            raise ModelFolderError(
                f"{folder} has no graph network: it is a regression on features; name their potential itself"
            )
        property_model = load_model(folder)
        property_model.check_references()
        backbone = property_model.network.backbone
    backbone.requires_grad_(False)
    return LoadedEncoder(folder, backbone, model, settings, description.weights_sha256)


def _embed(backbone: Backbone, settings: GraphSettings, crystals: Sequence[Crystal]) -> np.ndarray:
    """Embed reference structures, on the CPU in float64: ``[n, d]``."""
    copy = deepcopy(backbone).to(device="cpu", dtype=torch.float64).eval()
    with torch.inference_mode():
        embeddings: np.ndarray = copy(collate_crystals(crystals, settings).double()).graph.numpy()
    return embeddings
