"""Settings of a pre-training run, on structures without labels, and of its methods."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from crysmm.config.base import Settings
from crysmm.config.models import TEACHER
from crysmm.config.run import Ratio, RunConfig, ratio_unless_given

SYMPREC = 0.01  # Angstrom; suits relaxed structures from databases
DEFAULT_HELD_OUT = 0.05
DEFAULT_DEPTH = {"crysgnn": 5}  # published number of convolution layers, where it is not the backbone's default

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class MethodBase(Settings):
    """Settings shared by all methods; by default the encoder sees structures without corruption, as published."""

    mask_ratio: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the atoms whose features are hidden; crysae and crysgnn then predict only these.",
    )
    distance_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Standard deviation of the noise on each bond length, in Angstrom; crysae and crysgnn then predict "
        "the clean lengths.",
    )

    @model_validator(mode="after")
    def _refuse_zero_weights(self) -> Self:
        weights = {name: value for name, value in dict(self).items() if name.endswith("_weight")}
        if not self.distance_noise:
            weights.pop("distance_weight", None)  # its loss exists only with noise
        if weights and not any(weights.values()):
            raise PydanticCustomError("contradiction", "all weights are 0: nothing would be learned")
        return self


class ReconstructionConfig(MethodBase):
    """Settings shared by the methods whose decoders reconstruct the encoder's input."""

    max_pairs: int = Field(
        4096,
        ge=1,
        description="Maximum number of atom pairs per crystal whose connectivity is predicted; of more, a random "
        "sample is used.",
    )


class CrysAEConfig(ReconstructionConfig):
    """CrysAE, the auto-encoder of CrysXPP (Das et al. 2022)."""

    name: Literal["crysae"] = Field("crysae", description="Pre-training method.")
    feature_weight: Weight = Field(1.0, description="Weight of the atom feature loss.")
    connectivity_weight: Weight = Field(1.0, description="Weight of the connectivity loss.")
    bond_length_weight: Weight = Field(1.0, description="Weight of the loss on bond lengths in classes of 1 Angstrom.")
    distance_weight: Weight = Field(
        1.0, description="Weight of the loss on clean bond lengths; used with distance_noise only."
    )


class CrysGNNConfig(ReconstructionConfig):
    """CrysGNN (Das et al. 2023)."""

    name: Literal["crysgnn"] = Field("crysgnn", description="Pre-training method.")
    feature_weight: Weight = Field(0.25, description="Weight of the atom feature loss.")
    connectivity_weight: Weight = Field(0.25, description="Weight of the connectivity loss.")
    space_group_weight: Weight = Field(0.25, description="Weight of the space group loss.")
    crystal_system_weight: Weight = Field(
        0.25, description="Weight of the contrastive loss between crystal systems (NT-Xent)."
    )
    distance_weight: Weight = Field(
        0.25, description="Weight of the loss on clean bond lengths; used with distance_noise only."
    )
    temperature: float = Field(0.07, gt=0, allow_inf_nan=False, description="Temperature of the contrastive loss.")


class DecoysConfig(MethodBase):
    """Discrimination of crystals from decoys with wrong elements, the method of this package."""

    name: Literal["decoys"] = Field("decoys", description="Pre-training method.")
    replaced_ratio: float = Field(
        0.15, gt=0, lt=1, description="Fraction of the atoms replaced in decoys that replace single atoms."
    )
    replaced_weight: Weight = Field(1.0, description="Weight of the loss on which atoms have been replaced.")
    decoy_weight: Weight = Field(1.0, description="Weight of the loss on which crystals are decoys.")
    bonding_weight: Weight = Field(1.0, description="Weight of the loss on charges and bond sums from simple rules.")


class ImitationConfig(MethodBase):
    """Imitation of a teacher, such as a universal potential; a method of this package."""

    name: Literal["imitation"] = Field("imitation", description="Pre-training method.")
    teacher: str = Field(min_length=1, description=TEACHER)


MethodConfig = Annotated[CrysAEConfig | CrysGNNConfig | DecoysConfig | ImitationConfig, Field(discriminator="name")]

METHODS: dict[str, type[BaseModel]] = {
    "crysae": CrysAEConfig, "crysgnn": CrysGNNConfig, "decoys": DecoysConfig, "imitation": ImitationConfig
}  # fmt: skip


class PretrainingConfig(RunConfig):
    """Settings of `crysmm pretrain`; crystals in its test split are used for nothing."""

    method: MethodConfig = Field(
        DecoysConfig(),
        description="Pre-training method and its settings; crysgnn gives the backbone 5 layers by default.",
    )
    symprec: float = Field(
        SYMPREC,
        gt=0,
        le=0.5,
        description="Tolerance for finding the space groups used in training and evaluation, in Angstrom.",
    )
    val_ratio: Ratio | None = Field(
        default_factory=ratio_unless_given("val", DEFAULT_HELD_OUT),
        description="Fraction of crystals held out to evaluate the encoder (0.05).",
    )
    test_ratio: Ratio | None = Field(
        default_factory=ratio_unless_given("test", 0.0), description="Fraction of crystals that are left out (0)."
    )

    _has_filled_in_depth: bool = PrivateAttr(False)

    @property
    def teacher(self) -> str | None:
        """Name or place of the teacher that the network imitates, or None."""
        return self.method.teacher if isinstance(self.method, ImitationConfig) else None

    @model_validator(mode="after")
    def _fill_in_depth(self) -> Self:
        """Give the backbone the depth published with the method, unless one is set."""
        depth = DEFAULT_DEPTH.get(self.method.name)
        has_depth = "conv_layers" in type(self.model).model_fields
        if depth is not None and has_depth and "conv_layers" not in self.model.model_fields_set:
            # The settings are frozen.
            self.__dict__["model"] = self.model.model_copy(update={"conv_layers": depth})
            self._has_filled_in_depth = True
        return self

    def given(self) -> dict[str, Any]:
        """Return the settings that were given, without a depth that was filled in."""
        given = super().given()
        if self._has_filled_in_depth and "model" in given:
            del given["model"]["conv_layers"]
        return given

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from super()._contradictions()
        if self.model.link != "identity":
            yield "model.link", f"{self.model.link} has no effect without a target; leave it out"
        if self.model.classification:
            yield "model.classification", "has no effect without a target; leave it out"
