"""Every setting of a pre-training run: learning from structures without labels."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from crysmm.config.models import BACKBONES
from crysmm.config.run import DEFAULT_CHOICES, Ratio, RunConfig

SYMPREC = 0.01  # Angstrom; of structures as databases hold them
DEFAULT_HELD_OUT = 0.05
DEFAULT_DEPTH = {"crysgnn": 5}  # convolution layers, as published, where they are other than the backbone's own

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


def _default_val_ratio(settings: dict[str, Any]) -> float | None:
    return DEFAULT_HELD_OUT if settings["n_val"] is None and settings["ids_file"] is None else None


def _default_test_ratio(settings: dict[str, Any]) -> float | None:
    return 0.0 if settings["n_test"] is None and settings["ids_file"] is None else None


def _name_of(choice: Any) -> str:
    """What a section chooses, before it is validated: settings as a file or as Python has them; else empty."""
    name = dict(choice).get("name") if isinstance(choice, dict | BaseModel) else None
    return name if isinstance(name, str) else ""


class PretrainingConfig(RunConfig):
    """The settings of `crysmm pretrain`; what its split calls test is left out of everything."""

    method: MethodConfig = Field(
        DecoysConfig(),
        description="What is learned without labels, and its settings; crysgnn gives the backbone 5 layers by default.",
    )
    symprec: float = Field(
        SYMPREC, gt=0, le=0.5, description="Tolerance of the space groups that are learned and judged by, Angstrom."
    )
    val_ratio: Ratio | None = Field(
        default_factory=_default_val_ratio, description="Share of the crystals held out to judge the encoder (0.05)."
    )
    test_ratio: Ratio | None = Field(
        default_factory=_default_test_ratio, description="Share of the crystals that are left out (0)."
    )

    @classmethod
    def _default_sizes(cls, given: dict[str, Any]) -> dict[str, Any]:
        method, model = (given.get(section, {"name": DEFAULT_CHOICES[section]}) for section in ("method", "model"))
        depth, backbone = DEFAULT_DEPTH.get(_name_of(method)), BACKBONES.get(_name_of(model))
        if depth is None or backbone is None or not isinstance(model, dict):
            return given
        return {**given, "model": {"conv_layers": depth, **model}} if "conv_layers" in backbone.model_fields else given

    def _problems(self) -> Iterator[tuple[str, str]]:
        yield from super()._problems()
        if self.model.link != "identity":
            yield "model.link", f"{self.model.link} has no meaning without a target; leave it out"
        if self.model.classification:
            yield "model.classification", "has no meaning without a target; leave it out"
