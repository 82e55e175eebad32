"""Settings of the backbones, with the authors' widths and depths, under the names that ALIGNN's configs use."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Link = Literal["identity", "log", "logit"]
Normalization = Literal["batch", "layer"]
# Far beyond any use: a typo such as 640000 features gives an error instead of filling the memory.
MAX_LAYERS, MAX_WIDTH = 1000, 16_384


class BackboneConfig(BaseModel):
    """Settings shared by all backbones.

    Attributes:
        merges_equivalent: True if symmetry-equivalent atoms may be computed once for all of them. The backbone's
            ``embed_atoms`` then reads only atom features, bond lengths and cosines, draws no random numbers, and
            passes the multiplicities of the rows to its batch norms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    merges_equivalent: ClassVar[bool] = False

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


ModelConfig = Annotated[CGCNNConfig | CrysXPPConfig | GATGNNConfig | ALIGNNConfig, Field(discriminator="name")]

BACKBONES: dict[str, type[BaseModel]] = {
    "cgcnn": CGCNNConfig,
    "crysxpp": CrysXPPConfig,
    "gatgnn": GATGNNConfig,
    "alignn": ALIGNNConfig,
}
