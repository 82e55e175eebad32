"""Models that predict properties, written to their folders and read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from crysmm.config.graph import GraphSettings
from crysmm.config.training import TrainingConfig
from crysmm.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.errors import ModelFolderError
from crysmm.inference.folder import (
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
from crysmm.inference.network import Inference
from crysmm.models.heads import PropertyNetwork, build_network
from crysmm.text.crystals import Texts, from_lists
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
    """Write the folder of a model; see :func:`crysmm.inference.folder.write_folder`.

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
