"""A model folder: weights as safetensors and everything else as JSON; data, never code.

``model.safetensors`` holds the weights, ``model.json`` what they mean: config, graph settings, elements, versions, a
checksum of the weights, and a few reference structures with what the model makes of them, which is recomputed when
the model is loaded, so that a change of some library that changes numbers cannot go unnoticed. There are two kinds,
models that predict properties (with their scaler) and pre-trained encoders.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from torch import Tensor, nn

from crysmm.config.graph import GraphSettings
from crysmm.config.head import MultimodalConfig
from crysmm.config.models import ModelConfig
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError, ModelFolderError, brief
from crysmm.files import replacing, write_json_atomic
from crysmm.text.embeddings import TextSettings, to_lists
from crysmm.text.encoder import MAX_TOKENS
from crysmm.version import __version__
from crysmm.zoo import shipped_names

MOST_WORDS = 2**31  # of a language model
LARGE = 2**26  # weights; a network of more is compared with its file before it is made
WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"
ENSEMBLE_FILE = "ensemble.json"  # in place of the two, where models in the folder predict together
FORMAT_VERSION = 1
BACKBONE = "backbone."  # prefix of the weights of a backbone in every network
N_REFERENCES = 3
REFERENCE_ATOMS = 6  # reference structures have at most so many atoms where the data have such
LARGEST_DRIFT = 1e-4  # of the spread of the training targets, or of the embeddings
OF_THE_RUN = {
    "root_dir", "output_dir", "cache_dir", "ids_file", "init_from", "freeze_epochs", "resume", "overwrite"
}  # fmt: skip


Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]+$")]
"""Text that means nothing to a shell, as it is written into scripts."""


class Reference(BaseModel):
    """A structure and what the model predicts for it: values in original units, or probabilities.

    ``text`` is the embedding of its description, or its tokens, where the model reads one and there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lattice_mat: list[list[float]]
    frac_coords: list[list[float]]
    elements: list[str]
    prediction: list[float]
    text: list[float] | None = None

    @property
    def has_tokens(self) -> bool:
        """Whether ``text`` is a list of tokens, or there is none."""
        if self.text is None:
            return True
        whole = all(0 <= number < MOST_WORDS and number.is_integer() for number in self.text)
        return whole and 1 <= len(self.text) <= MAX_TOKENS

    @model_validator(mode="after")
    def _is_a_crystal(self) -> Self:
        _ = self.crystal  # its errors are ValueErrors
        return self

    @property
    def crystal(self) -> Crystal:
        """The structure."""
        return Crystal.from_arrays(self.lattice_mat, self.frac_coords, self.elements)


class Origin(BaseModel):
    """The checkpoint of other code that a model was converted from.

    Args:
        code: whose it is: alignn, cgcnn, crysxpp or crysgnn.
        file: its name.
        sha256: its checksum.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    file: str
    sha256: str


class Description(BaseModel):
    """What ``model.json`` of any model holds.

    Of a converted model ``elements`` is None, as its training structures are not known, and so are its settings of
    training: ``config`` says what it is and on which graphs, and has the defaults otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    atom_input_features: int
    elements: list[str] | None
    converted_from: Origin | None = None
    graph: GraphSettings
    config: RunConfig
    references: list[Reference] = Field(min_length=1)
    versions: dict[Word, Word]
    weights_sha256: str

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.graph != self.config.graph_settings():
            raise ValueError("graph is not what config asks for")
        return self


class ModelDescription(Description):
    """What ``model.json`` of a model that predicts properties holds."""

    format: Literal["crysmm-model"] = "crysmm-model"
    target_names: list[str]
    unit: str | None = None
    scaler: TargetScaler
    text: TextSettings | None = None
    config: TrainingConfig

    @model_validator(mode="after")
    def _has_targets(self) -> Self:
        scaler, n_targets = self.scaler, len(self.target_names)
        counts = {scaler.n_targets, *([] if scaler.classes is not None else map(len, (scaler.mean, scaler.std)))}
        if counts != {n_targets}:
            raise ValueError(f"scaler is not of {n_targets} targets")
        return self

    @model_validator(mode="after")
    def _reads_text(self) -> Self:
        if (self.text is not None) != isinstance(self.config.head, MultimodalConfig):
            raise ValueError("text is there for a multimodal head, and for no other")
        widths = {len(reference.text) for reference in self.references if reference.text is not None}
        has_tokens = self.text is not None and self.text.tuned_layers
        if not has_tokens and not widths <= {self.text.width if self.text else 0}:
            raise ValueError("the text of a reference structure has not the width that text says")
        if has_tokens and not all(reference.has_tokens for reference in self.references):
            raise ValueError(f"the text of a reference structure is no list of 1 to {MAX_TOKENS} tokens")
        return self


class EncoderDescription(Description):
    """What ``model.json`` of a pre-trained encoder holds; its references' predictions are pooled embeddings."""

    format: Literal["crysmm-encoder"] = "crysmm-encoder"
    config: PretrainingConfig


DESCRIPTIONS: dict[str, type[Description]] = {
    "crysmm-model": ModelDescription,
    "crysmm-encoder": EncoderDescription,
}


def reference_rows(rows: Sequence[int], n_atoms: np.ndarray) -> list[int]:
    """Rows whose structures are kept as references: small ones, from the smallest to the largest of them."""
    by_row = np.sort(rows)
    by_size = by_row[np.argsort(n_atoms[by_row], kind="stable")]
    n_small = max(1, int((n_atoms[by_size] <= REFERENCE_ATOMS).sum()))
    places = np.linspace(0, n_small - 1, min(N_REFERENCES, n_small)).round().astype(int)
    return by_size[places].tolist()


def write_folder(
    folder: Path,
    network: nn.Module,
    config: RunConfig,
    *,
    kind: str,
    elements: Sequence[str] | None,
    references: Sequence[Crystal],
    predictions: np.ndarray,
    texts: np.ndarray | None = None,
    origin: Origin | None = None,
    others: Mapping[str, Any],
) -> str:
    """Write a model folder; the description comes last, so that a folder with one is complete.

    Args:
        folder: other files in it are left alone.
        network: its weights are written, wherever they are.
        config: what it was trained with; paths of the run are left out.
        kind: a key of ``DESCRIPTIONS``.
        elements: symbols that occur in the training split; ``None`` where that is not known.
        references: a few crystals (see :func:`reference_rows`) to keep.
        predictions: a row for each of them.
        texts: what the model reads of each of them, for models that read text.
        origin: what it was converted from, if it was.
        others: what this kind of description has besides.

    Returns:
        The checksum of the weights.

    Raises:
        InputError: the predictions are not finite; nothing is written.
    """
    from safetensors.torch import save

    if not np.isfinite(predictions).all():
        raise InputError(
            f"{folder} is not written: what its model gives for the crystals that are kept with it is not finite, so "
            "its weights cannot be used"
        )
    settings = config.graph_settings()
    read = [None] * len(references) if texts is None else to_lists(texts)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = save(tensors, metadata={"format": "pt"})
    checksum = hashlib.sha256(weights).hexdigest()
    description = {
        "format": kind,
        "format_version": FORMAT_VERSION,
        **others,
        "atom_input_features": collate_crystals(references[:1], settings).atom_features.shape[1],
        "elements": None if elements is None else list(elements),
        **({} if origin is None else {"converted_from": origin.model_dump()}),
        "graph": settings.model_dump(mode="json"),
        "config": without_paths(config),
        "references": [
            {
                "lattice_mat": crystal.lattice.tolist(),
                "frac_coords": crystal.frac_coords.tolist(),
                "elements": crystal.elements,
                "prediction": predictions[row].tolist(),
                **({} if read[row] is None else {"text": read[row]}),
            }
            for row, crystal in enumerate(references)
        ],
        "versions": {"crysmm": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "weights_sha256": checksum,
    }
    with replacing(folder / WEIGHTS_FILE) as temporary:
        temporary.write_bytes(weights)
    write_json_atomic(folder / DESCRIPTION_FILE, description)
    return checksum


def without_paths(config: RunConfig) -> dict[str, Any]:
    """The settings but for where things lay; of a teacher the folder's name is left."""
    settings = config.model_dump(mode="json", exclude=OF_THE_RUN)
    if isinstance(config, TrainingConfig):
        head = settings["head"]
        if head.get("teacher") is not None:
            head["teacher"] = Path(head["teacher"]).resolve().name
        if config.head.name == "multimodal":
            head["descriptions"] = None
            if Path(head["encoder"]).is_dir():
                head["encoder"] = Path(head["encoder"]).resolve().name
    return settings


def read_description(folder: Path) -> Description:
    """What ``model.json`` says, of either kind.

    Raises:
        ModelFolderError: it is not there or not ours.
    """
    path = folder / DESCRIPTION_FILE
    present = [name for name in (WEIGHTS_FILE, DESCRIPTION_FILE) if (folder / name).is_file()]
    if not present and (folder / ENSEMBLE_FILE).is_file():
        raise ModelFolderError(
            f"{folder} holds an ensemble, and one model is needed; name one of its members, {folder / 'member_1'} or "
            "another"
        )
    if not present:
        what = "is not a crysmm model folder" if folder.is_dir() else "is not a folder"
        shipped = f", or the name of a shipped model ({names})" if (names := ", ".join(shipped_names())) else ""
        raise ModelFolderError(f"{folder} {what}; expected {DESCRIPTION_FILE} and {WEIGHTS_FILE} in it{shipped}")
    if len(present) == 1:
        missing = WEIGHTS_FILE if present == [DESCRIPTION_FILE] else DESCRIPTION_FILE
        raise ModelFolderError(f"{folder / missing} is missing; copy the whole model folder, or train again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} is damaged: it is not JSON ({error}); copy the model folder again") from error
    return _parse_description(content, path)


def _parse_description(content: Any, path: Path) -> Description:
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in DESCRIPTIONS:
        raise ModelFolderError(
            f"{path} was not written by crysmm; expected the folder of a run of crysmm train or crysmm pretrain"
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path} has format version {content.get('format_version')}; crysmm {__version__} reads version "
            f"{FORMAT_VERSION}: install the crysmm that wrote it"
        )
    try:
        return DESCRIPTIONS[kind].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        problem = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise ModelFolderError(
            f"{path} is damaged or of another version of crysmm than {__version__}: {problem}"
        ) from error


def read_weights(folder: Path, description: Description) -> dict[str, Tensor]:
    """The weights of a folder, by name.

    Raises:
        ModelFolderError: they are damaged or not those the description was written with.
    """
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
        raise ModelFolderError(f"{path} is not a safetensors file: {brief(error)}") from error


def refuse_larger(build: Callable[[], nn.Module], model: ModelConfig, weights: dict[str, Tensor], folder: Path) -> None:
    """Refuse settings of a network far larger than its weights before the memory for it is taken.

    Args:
        build: makes the network.
        model: its settings; those of a small network are not looked into, as that takes a third of a second.
        weights: of its folder.
        folder: of the model.

    Raises:
        ModelFolderError: a name or a shape differs.
    """
    sizes = {name: size for name, size in dict(model).items() if type(size) is int}
    layers = max((size for name, size in sizes.items() if name.endswith("_layers")), default=1)
    if max(layers, 1) * max(sizes.values()) ** 2 > LARGE:
        with torch.device("meta"):
            network = build()
        refuse_other_weights(network, weights, folder)


def load_weights(network: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Give a network the weights of its folder, and put it in evaluation mode.

    Raises:
        ModelFolderError: a name or a shape differs.
    """
    refuse_other_weights(network, weights, folder)
    network.load_state_dict(weights)
    network.eval()


def refuse_other_weights(network: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Refuse weights that are not a network's, which may be on the device ``meta``.

    Raises:
        ModelFolderError: a name or a shape differs.
    """
    problem = _difference(network.state_dict(), weights)
    if problem:
        raise ModelFolderError(f"{folder / WEIGHTS_FILE} does not fit {DESCRIPTION_FILE}: {problem}")


def reference_predictions(folder: Path, description: Description, width: int) -> np.ndarray:
    """``[n_references, width]``: what the model has made of its reference structures when it was saved.

    Raises:
        ModelFolderError: they have not so many numbers each.
    """
    widths = {len(reference.prediction) for reference in description.references}
    if widths != {width}:
        found = " and ".join(map(str, sorted(widths)))
        raise ModelFolderError(
            f"{folder / DESCRIPTION_FILE} is damaged: the predictions of its reference structures have {found} "
            f"numbers, expected {width}; copy the model folder again"
        )
    return np.array([reference.prediction for reference in description.references])


def refuse_drift(folder: Path, description: Description, drift: float, of_what: str) -> None:
    """Refuse a model that no longer gives what it gave when it was saved.

    Args:
        folder: of the model.
        description: what it says.
        drift: the largest change on its reference structures, as a share of ``of_what``.
        of_what: what changes are measured by.

    Raises:
        ModelFolderError: the drift is more than rounding.
    """
    if not drift <= LARGEST_DRIFT:
        saved = ", ".join(f"{name} {version}" for name, version in description.versions.items())
        raise ModelFolderError(
            f"{folder / DESCRIPTION_FILE}: the reference structures kept in it are now predicted differently, "
            f"by {drift:.2g} of {of_what} (at most {LARGEST_DRIFT:g} is rounding); the model was "
            f"saved with {saved}: install those versions, or train it again"
        )


def _difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """The first way in which two sets of weights differ in names or shapes; empty if they do not."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not part of the network described"
        if expected[name].shape != found[name].shape:
            return f"{name} is {shape_of(found[name])}, expected {shape_of(expected[name])}"
    return ""


def shape_of(tensor: Tensor) -> str:
    """As people write it: ``64 x 92``."""
    return " x ".join(map(str, tensor.shape)) or "a number"
