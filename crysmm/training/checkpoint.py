"""A model folder: weights as safetensors and everything else as JSON; data, never code.

``model.safetensors`` holds the weights, ``model.json`` what they mean: config, graph settings, scaler, elements,
versions, a checksum of the weights, and a few reference structures with their predictions, which are recomputed
when the model is loaded, so that a change of some library that changes predictions cannot go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from crysmm import __version__
from crysmm.atomic_files import replacing, write_json_atomic
from crysmm.config.graph import GraphSettings
from crysmm.config.training import TrainingConfig
from crysmm.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError, ModelFolderError
from crysmm.inference import Inference
from crysmm.models.heads import PropertyNetwork, build_network

WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"
FORMAT_VERSION = 1
N_REFERENCES = 3
REFERENCE_ATOMS = 12  # reference structures have at most so many atoms where the data have such
LARGEST_DRIFT = 1e-4  # of the spread of the training targets
OF_THE_RUN = {"root_dir", "output_dir", "cache_dir", "ids_file", "init_from", "resume", "overwrite"}


class Reference(BaseModel):
    """A structure and what the model predicts for it: values in original units, or probabilities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lattice_mat: list[list[float]]
    frac_coords: list[list[float]]
    elements: list[str]
    prediction: list[float]

    @property
    def crystal(self) -> Crystal:
        """The structure."""
        return Crystal.from_arrays(self.lattice_mat, self.frac_coords, self.elements)


class ModelDescription(BaseModel):
    """What ``model.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["crysmm-model"] = "crysmm-model"
    format_version: int = FORMAT_VERSION
    target_names: list[str]
    unit: str | None = None
    atom_input_features: int
    elements: list[str]
    graph: GraphSettings
    scaler: TargetScaler
    config: TrainingConfig
    references: list[Reference]
    versions: dict[str, str]
    weights_sha256: str


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
        references = self.description.references
        expected = np.array([reference.prediction for reference in references])
        crystals = [reference.crystal for reference in references]
        drift = self.scaler.drift(_predict(self.network, self.scaler, self.settings, crystals), expected)
        if not drift <= LARGEST_DRIFT:
            saved = ", ".join(f"{name} {version}" for name, version in self.description.versions.items())
            raise ModelFolderError(
                f"{self.folder / DESCRIPTION_FILE}: the reference structures kept in it are now predicted differently, "
                f"by {drift:.2g} of the spread of the target (at most {LARGEST_DRIFT:g} is rounding); the model was "
                f"saved with {saved}: install those versions, or train it again"
            )


def reference_rows(rows: Sequence[int], n_atoms: np.ndarray) -> list[int]:
    """Rows whose structures are kept as references: small ones, from the smallest to the largest of them."""
    by_size = sorted(rows, key=lambda row: (n_atoms[row], row))
    small = [row for row in by_size if n_atoms[row] <= REFERENCE_ATOMS] or by_size[:1]
    places = np.linspace(0, len(small) - 1, min(N_REFERENCES, len(small))).round().astype(int)
    return [small[place] for place in places]


def save_model(
    folder: Path,
    network: PropertyNetwork,
    config: TrainingConfig,
    scaler: TargetScaler,
    *,
    target_names: Sequence[str],
    elements: Sequence[str],
    references: Sequence[Crystal],
) -> None:
    """Write a model folder; the description comes last, so that a folder with one is complete.

    Args:
        folder: other files in it are left alone.
        network: its weights are written, wherever they are.
        config: what it was trained with; paths of the run are left out.
        scaler: fitted on the training split.
        target_names: one a target.
        elements: symbols that occur in the training split.
        references: a few crystals (see :func:`reference_rows`) to keep with their predictions.
    """
    from safetensors.torch import save

    settings = config.graph_settings()
    weights = save(_weights(network), metadata={"format": "pt"})
    predictions = _predict(network, scaler, settings, references)
    description = {
        "format": "crysmm-model",
        "format_version": FORMAT_VERSION,
        "target_names": list(target_names),
        "unit": None,
        "atom_input_features": collate_crystals(references[:1], settings).atom_features.shape[1],
        "elements": list(elements),
        "graph": settings.model_dump(mode="json"),
        "scaler": scaler.to_dict(),
        "config": config.model_dump(mode="json", exclude=OF_THE_RUN),
        "references": [
            {
                "lattice_mat": crystal.lattice.tolist(),
                "frac_coords": crystal.frac_coords.tolist(),
                "elements": crystal.elements,
                "prediction": prediction.tolist(),
            }
            for crystal, prediction in zip(references, predictions, strict=True)
        ],
        "versions": {"crysmm": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    with replacing(folder / WEIGHTS_FILE) as temporary:
        temporary.write_bytes(weights)
    write_json_atomic(folder / DESCRIPTION_FILE, description)


def _weights(network: PropertyNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def _predict(
    network: PropertyNetwork, scaler: TargetScaler, settings: GraphSettings, crystals: Sequence[Crystal]
) -> np.ndarray:
    return Inference(network, scaler).predict(collate_crystals(crystals, settings))


def load_model(folder: Path | str) -> LoadedModel:
    """Read a model folder, on the CPU.

    Raises:
        ModelFolderError: it is not one, incomplete or damaged; the text names the file.
    """
    folder = Path(folder)
    description = read_description(folder)
    weights = _read_weights(folder, description)
    config = description.config.model_copy(update={"engine": "blocked"})  # it needs no dgl; the numbers are the same
    network = build_network(config, description.scaler.n_outputs)
    problem = _difference(network.state_dict(), weights)
    if problem:
        raise ModelFolderError(f"{folder / WEIGHTS_FILE} does not fit {DESCRIPTION_FILE}: {problem}")
    network.load_state_dict(weights)
    return LoadedModel(folder, network.eval(), description)


def read_description(folder: Path) -> ModelDescription:
    """What ``model.json`` says.

    Raises:
        ModelFolderError: it is not there or not ours.
    """
    path = folder / DESCRIPTION_FILE
    present = [name for name in (WEIGHTS_FILE, DESCRIPTION_FILE) if (folder / name).is_file()]
    if not present:
        what = "is not a crysmm model folder" if folder.is_dir() else "is not a folder"
        raise ModelFolderError(f"{folder} {what}; expected {DESCRIPTION_FILE} and {WEIGHTS_FILE} in it")
    if len(present) == 1:
        missing = WEIGHTS_FILE if present == [DESCRIPTION_FILE] else DESCRIPTION_FILE
        raise ModelFolderError(f"{folder / missing} is missing; copy the whole model folder, or train again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFolderError(f"{path} is damaged: it is not JSON ({error}); copy the model folder again") from error
    return _parse_description(content, path)


def _parse_description(content: Any, path: Path) -> ModelDescription:
    if not isinstance(content, dict) or content.get("format") != "crysmm-model":
        raise ModelFolderError(f"{path} was not written by crysmm; expected the folder of a run of crysmm train")
    if content.get("format_version") != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path} has format version {content.get('format_version')}; crysmm {__version__} reads version "
            f"{FORMAT_VERSION}: install the crysmm that wrote it"
        )
    try:
        return ModelDescription.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelFolderError(
            f"{path} is damaged or of another version of crysmm than {__version__}: {place}: {first['msg']}"
        ) from error


def _read_weights(folder: Path, description: ModelDescription) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != description.weights_sha256:
        raise ModelFolderError(
            f"{path} is damaged or of another model: its checksum is not the one in {DESCRIPTION_FILE}; "
            "copy the model folder again"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is not a safetensors file: {error}") from error


def _difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """The first way in which two sets of weights differ in names or shapes; empty if they do not."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not part of the network described"
        if expected[name].shape != found[name].shape:
            return f"{name} is {_shape(found[name])}, expected {_shape(expected[name])}"
    return ""


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


@dataclass(frozen=True)
class CopyReport:
    """Which weights of another model were taken over.

    Args:
        folder: of the other model.
        loaded: names of the weights taken over.
        left_out: by name, why not: the shapes, or on which side it is missing.
        graph: the graphs the other model was trained on.
    """

    folder: Path
    loaded: list[str]
    left_out: dict[str, str]
    graph: GraphSettings

    def text(self) -> str:
        """One paragraph for the screen."""
        total = len(self.loaded) + len(self.left_out)
        graph = f"{self.graph.neighbor_strategy}, cutoff {self.graph.cutoff:g}, {self.graph.max_neighbors} neighbours"
        left_out = "".join(f"; left out {name} ({why})" for name, why in self.left_out.items())
        return (
            f"weights from {self.folder}: {len(self.loaded)} of {total} loaded{left_out}. "
            f"They were trained on graphs of {graph}."
        )


def copy_weights(network: PropertyNetwork, folder: Path | str) -> CopyReport:
    """Start a network from another model: every weight whose name and shape agree is taken over.

    Args:
        network: is changed.
        folder: of the other model; its head may differ.

    Raises:
        ModelFolderError: the folder cannot be read.
        InputError: no weight fits.
    """
    folder = Path(folder)
    description = read_description(folder)
    found, expected = _read_weights(folder, description), network.state_dict()
    left_out = {}
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            left_out[name] = "only in the new network"
        elif name not in expected:
            left_out[name] = "only in the other model"
        elif found[name].shape != expected[name].shape:
            left_out[name] = f"{_shape(found[name])} there, {_shape(expected[name])} here"
    loaded = [name for name in expected if name not in left_out]
    if not loaded:
        raise InputError(
            f"no weight of {folder} fits the network: it is a {description.config.model.name} of another size or kind; "
            "give the same model settings, or leave out init_from"
        )
    network.load_state_dict({name: found[name] for name in loaded}, strict=False)
    return CopyReport(folder, loaded, left_out, description.graph)
