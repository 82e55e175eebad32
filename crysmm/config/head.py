"""The settings of the objective's head: what is trained on top of a backbone, chosen by ``head.name``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class VanillaConfig(BaseModel):
    """The backbone's own output layer, trained on the labels alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["vanilla"] = Field("vanilla", description="Which head.")


HeadConfig = VanillaConfig  # a union discriminated by name, like ModelConfig, once there is a second head
