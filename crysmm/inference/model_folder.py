"""Model folders: weights as safetensors and everything else as JSON; data, never code.

``model.safetensors`` holds the weights. ``model.json`` describes them: config, graph settings, elements, versions, a
checksum of the weights, and a few reference structures with their predictions. These are computed again when the model
is loaded, so that a library whose new version changes numbers cannot go unnoticed. Two kinds of models have folders:
models that predict properties, with their target scaler, and pre-trained encoders.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from torch import Tensor, nn

from crysmm import __version__
from crysmm.config.graph import GraphSettings
from crysmm.config.models import FeaturesConfig, HeadConfig, ModelConfig, MultimodalConfig, TeacherConfig
from crysmm.config.pretraining import ImitationConfig, MethodConfig, PretrainingConfig
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.crystals.crystal import Crystal
from crysmm.data.scaler import TargetScaler
from crysmm.elements import feature_table
from crysmm.errors import ModelFolderError, NoResultError, brief, first_problem
from crysmm.files import replacing, write_json_atomic
from crysmm.inference.model_files import DESCRIPTION_FILE, WEIGHTS_FILE, require_model
from crysmm.models.gaussian_process import MOST_KEPT
from crysmm.teachers.registry import TeacherIdentity
from crysmm.text.embeddings import TextSettings, to_lists
from crysmm.text.encoder import MAX_TOKENS

FORMAT_VERSION = 1
BACKBONE = "backbone."  # prefix of the weights of a backbone in every network
MOST_WORDS = 2**31  # tokens in the vocabulary of a language model
LARGE = 2**26  # weights; larger networks are compared with their file before memory is allocated
N_REFERENCES = 3
REFERENCE_ATOMS = 6  # reference structures have at most this many atoms, if the data have such structures
LARGEST_DRIFT = 1e-4  # of the standard deviation of the training targets, or of the largest entry of the embeddings
RUN_KEYS = {
    "root_dir", "output_dir", "cache_dir", "ids_file", "init_from", "freeze_epochs", "resume", "overwrite"
}  # fmt: skip
"""Config keys that belong to the training run rather than the model; they are not stored."""

Network = TypeVar("Network", bound=nn.Module)
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]+$")]
"""Text without special meaning to a shell, as it is written into scripts."""


class Reference(BaseModel):
    """A structure and its prediction by the model: values in original units, probabilities or an embedding.

    ``text`` is the embedding of its description, or the tokens of it, for models that read texts; ``potential`` are the
    features of its atoms, for models that read those of a potential.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lattice_mat: list[list[float]]
    frac_coords: list[list[float]]
    elements: list[str]
    prediction: list[float]
    text: list[float] | None = None
    potential: list[list[float]] | None = None

    @model_validator(mode="after")
    def _is_a_crystal(self) -> Self:
        _ = self.crystal  # raises ValueErrors, which pydantic collects
        return self

    @property
    def crystal(self) -> Crystal:
        """The structure."""
        return Crystal.from_arrays(self.lattice_mat, self.frac_coords, self.elements)


class Origin(BaseModel):
    """Checkpoint of other code that a model was converted from.

    Args:
        code: Name of that code: alignn, cgcnn, crysxpp or crysgnn.
        file: Name of the file.
        sha256: Checksum of the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    file: str
    sha256: str


class Description(BaseModel):
    """Content of ``model.json`` that both kinds of models share.

    For a converted model, ``elements`` is None, as its training structures are not known. So are its training
    settings: ``config`` has the model and its graphs, and defaults otherwise.
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
    def _graph_agrees_with_config(self) -> Self:
        if self.graph != self.config.graph_settings():
            raise ValueError("graph does not agree with config")
        return self


class ModelDescription(Description):
    """Content of ``model.json`` of a model that predicts properties."""

    format: Literal["crysmm-model"] = "crysmm-model"
    target_names: list[str]
    units: tuple[str | None, ...]
    scaler: TargetScaler
    text: TextSettings | None = None
    potential: TeacherIdentity | None = None
    n_kept: int | None = Field(None, ge=1, le=MOST_KEPT)
    config: TrainingConfig

    @model_validator(mode="before")
    @classmethod
    def _read_one_unit(cls, content: Any) -> Any:
        """Read the unit of folders that were written when there was one for all targets."""
        if isinstance(content, dict) and "units" not in content and isinstance(content.get("target_names"), list):
            content = {**content, "units": [content.get("unit")] * len(content["target_names"])}
            content.pop("unit", None)
        return content

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        scaler, n_targets = self.scaler, len(self.target_names)
        if len(self.units) != n_targets:
            raise ValueError(f"units are not for {n_targets} targets")
        counts = {scaler.n_targets, *([] if scaler.classes is not None else map(len, (scaler.mean, scaler.std)))}
        if counts != {n_targets}:
            raise ValueError(f"scaler is not for {n_targets} targets")
        head = self.config.head
        reads = self.text is not None or self.potential is not None
        if reads != isinstance(head, MultimodalConfig | FeaturesConfig):
            raise ValueError("text or potential is expected for the heads multimodal and features, and for no other")
        is_process = not self.config.has_graph_network
        if is_process != (self.n_kept is not None) or (is_process and self.potential is None):
            raise ValueError("potential and n_kept are expected for the head features")
        for reference in self.references:
            widths = [] if self.potential is None else [self.potential.width] * len(reference.elements)
            if [len(row) for row in reference.potential or ()] != widths:
                raise ValueError("a reference structure does not have the features of potential")
        texts = [reference.text for reference in self.references if reference.text is not None]
        if self.text is not None and self.text.tuned_layers:
            for tokens in texts:  # indices into a table of embeddings, so checked before they are used
                are_words = all(0 <= number < MOST_WORDS and number.is_integer() for number in tokens)
                if not are_words or not 1 <= len(tokens) <= MAX_TOKENS:
                    raise ValueError(f"the text of a reference structure is not a list of 1 to {MAX_TOKENS} tokens")
        elif not set(map(len, texts)) <= {self.text.width if self.text else 0}:
            raise ValueError("the text of a reference structure has another width than text")
        return self


class EncoderDescription(Description):
    """Content of ``model.json`` of a pre-trained encoder, whose predictions are pooled embeddings."""

    format: Literal["crysmm-encoder"] = "crysmm-encoder"
    config: PretrainingConfig


DESCRIPTIONS: dict[str, type[Description]] = {
    "crysmm-model": ModelDescription,
    "crysmm-encoder": EncoderDescription,
}


def reference_rows(rows: Sequence[int], n_atoms: np.ndarray) -> list[int]:
    """Choose the structures to keep as references: small ones of different sizes.

    Args:
        rows: Rows of the training split in the store.
        n_atoms: Number of atoms of each crystal in the store, ``[n_store]``.
    """
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
    potential_features: np.ndarray | None = None,
    origin: Origin | None = None,
    others: Mapping[str, Any],
) -> str:
    """Write a model folder; the description comes last, so that a folder that has one is complete.

    Args:
        folder: Folder to write to; other files in it are left alone.
        network: Network to store the weights of, on any device.
        config: Settings of the training; paths of the run are not stored.
        kind: Key of ``DESCRIPTIONS``.
        elements: Symbols of the elements in the training split; None if unknown.
        references: A few crystals to keep (see :func:`reference_rows`).
        predictions: Predictions for these crystals, ``[n_references, width]``.
        texts: Texts of these crystals as the model reads them, ``[n_references, text_width]``.
        potential_features: Features of their atoms by the potential that the model reads, ``[n_atoms_in_all, width]``.
        origin: Checkpoint that the model was converted from, if any.
        others: Further fields of this kind of description.

    Returns:
        The checksum of the weights.

    Raises:
        NoResultError: The predictions are not finite; nothing is written.
    """
    from safetensors.torch import save

    if not np.isfinite(predictions).all():
        raise NoResultError(
            f"{folder} is not written: the predictions for the crystals that are kept with the model are not finite, "
            "so its weights cannot be used"
        )
    settings = config.graph_settings()
    read = [None] * len(references) if texts is None else to_lists(texts)
    ends = np.cumsum([len(crystal) for crystal in references])[:-1]
    features = [] if potential_features is None else [part.tolist() for part in np.split(potential_features, ends)]
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = save(tensors, metadata={"format": "pt"})
    checksum = hashlib.sha256(weights).hexdigest()
    description = {
        "format": kind,
        "format_version": FORMAT_VERSION,
        **others,
        "atom_input_features": feature_table(settings.atom_features).shape[1],
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
                **({"potential": features[row]} if features else {}),
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
    """Return the settings without paths; of the folders of a teacher and a text encoder, the name is kept."""
    settings = config.model_dump(mode="json", exclude=RUN_KEYS)
    if isinstance(config, TrainingConfig):
        settings["head"] |= names_in_head(config.head)
        if isinstance(config.head, MultimodalConfig):
            settings["head"]["descriptions"] = None
    if isinstance(config, PretrainingConfig):
        settings["method"] |= names_in_method(config.method)
    return settings


def names_in_head(head: HeadConfig) -> dict[str, str]:
    """Return the names of a head's teacher, text encoder and file of features, by setting, without the path to them."""
    names = {}
    if isinstance(head, TeacherConfig) and head.teacher is not None:
        names["teacher"] = _name_of(head.teacher)
    if isinstance(head, MultimodalConfig) and Path(head.encoder).is_dir():  # else a name on the hub, with a slash in it
        names["encoder"] = Path(head.encoder).resolve().name
    if isinstance(head, MultimodalConfig | FeaturesConfig) and head.embeddings is not None:
        names["embeddings"] = Path(head.embeddings).name
    return names


def names_in_method(method: MethodConfig) -> dict[str, str]:
    """Return the name of a pre-training method's teacher, by setting, without the path to it."""
    return {"teacher": _name_of(method.teacher)} if isinstance(method, ImitationConfig) else {}


def _name_of(teacher: str) -> str:
    return Path(teacher).resolve().name  # resolved, as a name such as ".." says nothing


def read_description(folder: Path) -> Description:
    """Read the ``model.json`` of a model or an encoder.

    Raises:
        ModelFolderError: The folder is not a model folder, or the file is damaged or from another version.
    """
    require_model(folder)
    path = folder / DESCRIPTION_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} is damaged: it is not JSON ({error}); copy the model folder again") from error
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
        raise ModelFolderError(
            f"{path} is damaged or from another version of crysmm than {__version__}: {first_problem(error)}"
        ) from error


def read_weights(folder: Path, description: Description) -> dict[str, Tensor]:
    """Read the weights of a model folder, by name.

    Raises:
        ModelFolderError: They are damaged, or not those the description was written with.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != description.weights_sha256:
        raise ModelFolderError(
            f"{path} is damaged or belongs to another model: its checksum is not the one in {DESCRIPTION_FILE}; "
            "copy the model folder again"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is not a safetensors file: {brief(error)}") from error


def build_with_weights(
    build: Callable[[], Network], model: ModelConfig | None, weights: dict[str, Tensor], folder: Path
) -> Network:
    """Build the network of a model folder, load its weights, and put it in evaluation mode.

    Args:
        build: Builds the network.
        model: Settings that determine the size of the network; None if they do not.
        weights: Weights by name.
        folder: Model folder, for messages.

    Raises:
        ModelFolderError: The weights are not those of the network.
    """
    sizes = {} if model is None else {name: size for name, size in dict(model).items() if type(size) is int}
    n_layers = max((size for name, size in sizes.items() if name.endswith("_layers")), default=1)
    # Damaged settings may describe a network that no memory holds. A network without storage shows that first; for
    # small networks this is left out, as it takes a third of a second.
    if sizes and max(n_layers, 1) * max(sizes.values()) ** 2 > LARGE:
        with torch.device("meta"):
            _refuse_other_weights(build(), weights, folder)
    network = build()
    _refuse_other_weights(network, weights, folder)
    network.load_state_dict(weights)
    return network.eval()


def _refuse_other_weights(network: nn.Module, found: dict[str, Tensor], folder: Path) -> None:
    """Raise an error for the first weight that is missing, surplus or of another shape."""
    expected = network.state_dict()
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            problem = f"{name} is missing"
        elif name not in expected:
            problem = f"{name} is not part of the network described"
        elif expected[name].shape != found[name].shape:
            problem = f"{name} is {shape_of(found[name])}, expected {shape_of(expected[name])}"
        else:
            continue
        raise ModelFolderError(f"{folder / WEIGHTS_FILE} does not fit {DESCRIPTION_FILE}: {problem}")


def refuse_drift(
    folder: Path,
    description: Description,
    found: np.ndarray,
    drift: Callable[[np.ndarray, np.ndarray], float],
    unit: str,
) -> None:
    """Refuse a model whose predictions for its reference structures have changed since it was saved.

    Args:
        folder: Model folder.
        description: Description in it.
        found: Predictions now, ``[n_references, width]``.
        drift: Returns the largest difference of two predictions, in units of ``unit``.
        unit: Name of that unit, for the message.

    Raises:
        ModelFolderError: The change exceeds rounding, or the description has predictions of another width.
    """
    widths = {len(reference.prediction) for reference in description.references}
    if widths != {found.shape[1]}:
        numbers = " and ".join(map(str, sorted(widths)))
        raise ModelFolderError(
            f"{folder / DESCRIPTION_FILE} is damaged: the predictions of its reference structures have {numbers} "
            f"numbers, expected {found.shape[1]}; copy the model folder again"
        )
    change = drift(found, np.array([reference.prediction for reference in description.references]))
    if not change <= LARGEST_DRIFT:  # NaN is refused, too
        saved = ", ".join(f"{name} {version}" for name, version in description.versions.items())
        raise ModelFolderError(
            f"{folder / DESCRIPTION_FILE}: the reference structures kept in it are now predicted differently, "
            f"by {change:.2g} of {unit} (at most {LARGEST_DRIFT:g} is rounding); the model was "
            f"saved with {saved}: install those versions, or train it again"
        )


def shape_of(tensor: Tensor) -> str:
    """Return the shape for messages, such as ``64 x 92``."""
    return " x ".join(map(str, tensor.shape)) or "a number"
