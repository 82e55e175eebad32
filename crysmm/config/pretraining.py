"""Every setting of a pre-training run: learning from structures without labels."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

from crysmm.config.methods import DecoysConfig, MethodConfig
from crysmm.config.models import BACKBONES
from crysmm.config.run import DEFAULT_CHOICES, Ratio, RunConfig

SYMPREC = 0.01  # Angstrom; of structures as databases hold them
DEFAULT_HELD_OUT = 0.05
DEFAULT_DEPTH = {"crysgnn": 5}  # convolution layers, as published, where they are other than the backbone's own


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
