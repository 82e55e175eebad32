"""The settings of the backbones: the authors' widths and depths, under the names ALIGNN's configs use."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Link = Literal["identity", "log", "logit"]
Normalization = Literal["batch", "layer"]
MOST_LAYERS, WIDEST = 1000, 16_384  # far beyond any use; a slip of the keyboard is told instead of filling the memory


class BackboneConfig(BaseModel):
    """What every backbone's settings have in common.

    Attributes:
        merges_alike: of atoms that are alike one may be computed for all, because ``embed_atoms`` reads no more than
            atom features, lengths and cosines, draws nothing, and gives batch norms the multiplicities of their rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    merges_alike: ClassVar[bool] = False

    atom_input_features: int | None = Field(
        None, ge=1, description="Features an atom carries; by default what atom_features gives (92 for cgcnn)."
    )
    link: Link = Field(
        "identity",
        description="What the output layer predicts: the target (identity), its logarithm (log) or its logit (logit).",
    )
    classification: bool = Field(
        False, description="Predict classes: the distinct values of the target, or two by classification_threshold."
    )


class ConvolutionalConfig(BackboneConfig):
    """The settings of CGCNN and of what is built on its convolutions."""

    merges_alike = True

    name: str
    conv_layers: int = Field(3, ge=1, le=MOST_LAYERS, description="Convolution layers.")
    node_features: int = Field(64, ge=1, le=WIDEST, description="Width of an atom embedding.")
    edge_features: int = Field(
        41, ge=2, le=WIDEST, description="Gaussians a bond length is expanded in, from 0 to the cutoff."
    )
    fc_layers: int = Field(1, ge=0, le=MOST_LAYERS, description="Hidden layers after pooling.")
    fc_features: int = Field(128, ge=1, le=WIDEST, description="Width of the hidden layers after pooling.")


class CGCNNConfig(ConvolutionalConfig):
    """CGCNN (Xie and Grossman 2018)."""

    name: Literal["cgcnn"] = Field("cgcnn", description="Which backbone.")


class CrysXPPConfig(ConvolutionalConfig):
    """CrysXPP (Das et al. 2022): CGCNN with a weight for each atom feature."""

    name: Literal["crysxpp"] = Field("crysxpp", description="Which backbone.")
    sparsity: float = Field(
        0.01,
        ge=0,
        allow_inf_nan=False,
        description="Weight in the training loss of the mean size of the feature weights; 0 switches it off.",
    )
    as_first_published: bool = Field(
        False,
        description="The authors' first code: no bias in the atom embedding, atom embeddings scaled to length 1 before "
        "pooling and no softplus after it; its readout is fc_layers 2 and fc_features 64.",
    )


class GATGNNConfig(BackboneConfig):
    """GATGNN (Louis et al. 2020)."""

    merges_alike = True

    name: Literal["gatgnn"] = Field("gatgnn", description="Which backbone.")
    conv_layers: int = Field(3, ge=1, le=MOST_LAYERS, description="Augmented graph attention layers.")
    heads: int = Field(4, ge=1, le=MOST_LAYERS, description="Attention heads a layer.")
    node_features: int = Field(64, ge=1, le=WIDEST, description="Width of an atom embedding.")
    edge_features: int = Field(
        41, ge=2, le=WIDEST, description="Gaussians a bond length is expanded in, from 0 to the cutoff."
    )
    composition_features: int = Field(32, ge=1, le=WIDEST, description="Hidden width of the composition attention.")
    fc_layers: int = Field(2, ge=0, le=MOST_LAYERS, description="Hidden layers after pooling.")
    fc_features: int = Field(64, ge=1, le=WIDEST, description="Width of the hidden layers after pooling.")


class ALIGNNConfig(BackboneConfig):
    """ALIGNN (Choudhary and DeCost 2021)."""

    merges_alike = True

    name: Literal["alignn"] = Field("alignn", description="Which backbone.")
    alignn_layers: int = Field(
        4, ge=0, le=MOST_LAYERS, description="Layers that update bonds by bond angles, then atoms."
    )
    gcn_layers: int = Field(4, ge=1, le=MOST_LAYERS, description="Layers on the crystal graph alone.")
    edge_input_features: int = Field(
        80, ge=2, le=WIDEST, description="Gaussians a bond length is expanded in, on [0, 8] Angstrom."
    )
    triplet_input_features: int = Field(
        40, ge=2, le=WIDEST, description="Gaussians a bond cosine is expanded in, on [-1, 1]."
    )
    embedding_features: int = Field(64, ge=1, le=WIDEST, description="Width between the Gaussians and the embeddings.")
    hidden_features: int = Field(256, ge=1, le=WIDEST, description="Width of atom, bond and angle embeddings.")
    norm: Normalization = Field("batch", description="Normalisation after each linear layer.")


ModelConfig = Annotated[CGCNNConfig | CrysXPPConfig | GATGNNConfig | ALIGNNConfig, Field(discriminator="name")]

BACKBONES: dict[str, type[BaseModel]] = {
    "cgcnn": CGCNNConfig,
    "crysxpp": CrysXPPConfig,
    "gatgnn": GATGNNConfig,
    "alignn": ALIGNNConfig,
}
