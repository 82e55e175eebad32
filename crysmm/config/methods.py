"""The settings of the pre-training methods: what is learned from structures without labels."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class MethodBase(BaseModel):
    """What the methods have in common; by default structures are shown as they are, as published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mask_ratio: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the atoms whose features are hidden; crysae and crysgnn then ask for these alone.",
    )
    distance_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Deviation of the noise on each bond's length, Angstrom; crysae and crysgnn ask for the clean one.",
    )

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if not any(self._weights()):
            raise PydanticCustomError("contradiction", "all weights are 0: nothing would be learned")
        return self

    def _weights(self) -> Iterator[float]:
        """Of the losses that these settings have."""
        raise NotImplementedError


class ReconstructionConfig(MethodBase):
    """What the methods have in common that ask an encoder to give back what it was shown."""

    max_pairs: int = Field(
        4096, ge=1, description="Pairs of atoms of a crystal that connectivity is asked for; of more, some are drawn."
    )


class CrysAEConfig(ReconstructionConfig):
    """CrysAE, the auto-encoder of CrysXPP (Das et al. 2022)."""

    name: Literal["crysae"] = Field("crysae", description="Which method.")
    feature_weight: Weight = Field(1.0, description="Weight of the loss of atom features.")
    connectivity_weight: Weight = Field(1.0, description="Weight of the loss of connectivity.")
    bond_length_weight: Weight = Field(1.0, description="Weight of the loss of bond lengths in classes of 1 Angstrom.")
    distance_weight: Weight = Field(1.0, description="Weight of the loss of clean bond lengths, with distance_noise.")

    def _weights(self) -> Iterator[float]:
        yield from (self.feature_weight, self.connectivity_weight, self.bond_length_weight)
        yield self.distance_weight if self.distance_noise else 0.0


class CrysGNNConfig(ReconstructionConfig):
    """CrysGNN (Das et al. 2023)."""

    name: Literal["crysgnn"] = Field("crysgnn", description="Which method.")
    feature_weight: Weight = Field(0.25, description="Weight of the loss of atom features.")
    connectivity_weight: Weight = Field(0.25, description="Weight of the loss of connectivity.")
    space_group_weight: Weight = Field(0.25, description="Weight of the loss of space groups.")
    crystal_system_weight: Weight = Field(0.25, description="Weight of the contrast of crystal systems (NT-Xent).")
    distance_weight: Weight = Field(0.25, description="Weight of the loss of clean bond lengths, with distance_noise.")
    temperature: float = Field(0.07, gt=0, allow_inf_nan=False, description="Temperature of the contrast.")

    def _weights(self) -> Iterator[float]:
        yield from (self.feature_weight, self.connectivity_weight, self.space_group_weight, self.crystal_system_weight)
        yield self.distance_weight if self.distance_noise else 0.0


class DecoysConfig(MethodBase):
    """Telling crystals from decoys with wrong elements, the method of this package."""

    name: Literal["decoys"] = Field("decoys", description="Which method.")
    replaced_ratio: float = Field(
        0.15, gt=0, lt=1, description="Share of the atoms that get another element in decoys where single atoms do."
    )
    replaced_weight: Weight = Field(1.0, description="Weight of the loss of which atoms have been replaced.")
    decoy_weight: Weight = Field(1.0, description="Weight of the loss of which crystals are decoys.")
    bonding_weight: Weight = Field(1.0, description="Weight of the loss of charges and bond sums by simple rules.")

    def _weights(self) -> Iterator[float]:
        yield from (self.replaced_weight, self.decoy_weight, self.bonding_weight)


MethodConfig = Annotated[CrysAEConfig | CrysGNNConfig | DecoysConfig, Field(discriminator="name")]

METHODS: dict[str, type[BaseModel]] = {"crysae": CrysAEConfig, "crysgnn": CrysGNNConfig, "decoys": DecoysConfig}
