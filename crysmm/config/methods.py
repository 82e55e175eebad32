"""The settings of the pre-training methods: what is learned from structures without labels."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class CrysAEConfig(BaseModel):
    """CrysAE (Das et al. 2022)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["crysae"] = Field("crysae", description="Which method.")


class CrysGNNConfig(BaseModel):
    """CrysGNN (Das et al. 2023)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["crysgnn"] = Field("crysgnn", description="Which method.")


MethodConfig = Annotated[CrysAEConfig | CrysGNNConfig, Field(discriminator="name")]
