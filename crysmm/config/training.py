"""Every setting of a training run: learning properties from labels."""

from collections.abc import Iterator
from typing import Literal

from pydantic import AliasChoices, Field

from crysmm.config.head import HeadConfig, TaughtConfig, VanillaConfig
from crysmm.config.run import RunConfig


class TrainingConfig(RunConfig):
    """The settings of `crysmm train`."""

    # Target
    target_key: str | None = Field(
        None,
        validation_alias=AliasChoices("target_key", "target"),
        description="Property to learn: a key of the rows of a JSON file, or a column name of id_prop.csv's header; "
        "several, comma-separated, are learned together.",
    )
    target_transform: Literal["none", "log10"] = Field(
        "none", description="Learn the target itself or its log10; rows that are not positive are then bad rows."
    )
    standardize_target: bool = Field(
        True, description="Learn the target minus its mean, over its deviation, both of the training split alone."
    )
    target_multiplication_factor: float | None = Field(
        None, allow_inf_nan=False, description="Multiply every target by this as it is read (a change of unit)."
    )
    classification_threshold: float | None = Field(
        None, allow_inf_nan=False, description="Learn two classes: targets above this are 1, the others 0."
    )

    # Objective
    head: HeadConfig = Field(VanillaConfig(), description="What is trained on top of the backbone.")
    criterion: Literal["l1", "mse", "huber"] = Field("l1", description="Loss of regression.")
    ensemble: int = Field(
        1, ge=1, le=100, description="Networks trained on one split with successive seeds; their mean predicts."
    )
    freeze_epochs: int = Field(
        0,
        ge=0,
        description="Epochs in which the backbone's weights taken over by init_from stay fixed, before all learn.",
    )

    @property
    def is_classification(self) -> bool:
        """Whether classes are learned: asked for by ``model.classification`` or by a threshold."""
        return self.model.classification or self.classification_threshold is not None

    def merges(self, device_type: str) -> bool:
        """Where the backbone does so; DGL and batch norms across GPUs know nothing of rows that stand for several."""
        across_gpus = device_type == "cuda" and self.devices * self.num_nodes > 1
        return self.engine == "blocked" and self.model.merges_alike and not across_gpus

    @property
    def taught(self) -> TaughtConfig | None:
        """The head's settings where it has a teacher."""
        return self.head if isinstance(self.head, TaughtConfig) and self.head.teacher is not None else None

    def _problems(self) -> Iterator[tuple[str, str]]:
        yield from super()._problems()
        yield from self._target_problems()
        if self.freeze_epochs and self.init_from is None:
            yield "freeze_epochs", "has no meaning without --init_from, whose weights it freezes"

    def _target_problems(self) -> Iterator[tuple[str, str]]:
        link = self.model.link
        if self.is_classification and self.target_transform != "none":
            yield "target_transform", f"{self.target_transform} has no meaning for classes; leave it out"
        if self.is_classification and link != "identity":
            yield "model.link", f"{link} has no meaning for classes; leave it out"
        if self.target_transform == "log10" and link != "identity":
            yield "model.link", f"{link} contradicts --target_transform log10; give one of the two"
        if self.target_multiplication_factor == 0:
            yield "target_multiplication_factor", "0 would make every target 0"
